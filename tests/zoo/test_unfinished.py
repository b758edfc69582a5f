"""Training a zoo that is killed: nothing half-written, no process left, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from evovlm.system.errors import UserError
from evovlm.zoo._unfinished import Unfinished, finish, is_finished, unfinished

SETTINGS = {"command": "evovlm zoo train --seed 0", "models": ["base"]}


# The small zoo's own plan with thin models, which train in a second.
TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from evovlm.zoo import train

def thin():
    plan = train.small_plan()
    shape = replace(plan.shape, hidden=32, layers=2, inner=32, heads=2, kv_heads=1)
    shape = replace(shape, vision_hidden=16, vision_inner=16, vision_layers=1, vision_heads=2)
    return replace(plan, shape=shape)

train.PLANS["small"], train.TOKENIZER_TEXTS = thin, 2000
models = ("base", "ja", "vlm")
train.train_zoo(Path(sys.argv[1]), device="cpu", scale=0.0005, models=models, processes=2)
"""


def trainer(out: Path) -> list[str]:
    return [sys.executable, "-P", "-c", TRAIN, str(out)]


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_and_the_same_command_goes_on_where_it_was(tmp_path: Path):
    shared = set(os.listdir("/dev/shm"))
    out, stage = tmp_path / "zoo", tmp_path / ".zoo.part" / "base.safetensors"
    with (tmp_path / "errors").open("w") as errors:
        running = subprocess.Popen(trainer(out), stderr=errors, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not stage.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    started = psutil.Process(running.pid).children(recursive=True)
    assert sum("spawn_main" in " ".join(process.cmdline()) for process in started) == 2, "the data processes"
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, (tmp_path / "errors").read_text()
    _, alive = psutil.wait_procs(started, timeout=15)
    assert not alive
    assert set(os.listdir("/dev/shm")) <= shared
    assert not out.exists()

    again = subprocess.run(trainer(out), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert "base: trained before" in again.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["errors", "zoo"]
    assert sorted(path.name for path in out.iterdir()) == ["base", "ja", "manifest.json", "vlm"]

    whole = subprocess.run(trainer(tmp_path / "whole"), capture_output=True, text=True, timeout=600)
    assert whole.returncode == 0, whole.stderr
    files = [json.loads((folder / "manifest.json").read_text())["files"] for folder in (out, tmp_path / "whole")]
    assert files[0] == files[1]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    done = subprocess.run(trainer(out), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_stage_is_read_as_it_was_kept(tmp_path: Path):
    weights = {"b": torch.zeros(1), "a": torch.tensor([[1.0, 1e-7], [0.5, -3.0]]).t()}
    with unfinished(tmp_path / "zoo", SETTINGS) as work:
        assert work.stage("base") is None
        work.keep("base", weights, 12.34)
    with unfinished(tmp_path / "zoo", SETTINGS) as work:
        found = work.stage("base")
        assert found is not None
        assert torch.equal(found[0]["a"], weights["a"])
        assert list(found[0]) == ["b", "a"], "another order rounds otherwise"
        assert found[1] == 12.3
    assert not (tmp_path / "zoo").exists()


def test_other_settings_do_not_go_on_with_an_unfinished_zoo(tmp_path: Path):
    with unfinished(tmp_path / "zoo", SETTINGS):
        pass
    with (
        pytest.raises(UserError, match=r"\.zoo\.part: .*command evovlm zoo train --seed 0, now .*--seed 1"),
        unfinished(tmp_path / "zoo", SETTINGS | {"command": "evovlm zoo train --seed 1"}),
    ):
        pass


def test_two_processes_do_not_train_the_same_zoo(tmp_path: Path):
    with (
        unfinished(tmp_path / "zoo", SETTINGS),
        pytest.raises(UserError, match="another process is using this folder"),
        unfinished(tmp_path / "zoo", SETTINGS),
    ):
        pass


def test_a_zoo_gets_its_name_when_all_of_it_is_written(tmp_path: Path):
    out = tmp_path / "zoo"
    out.mkdir()  # an empty folder may be given
    with unfinished(out, SETTINGS) as work:
        left = work.folder / "zoo"
        left.mkdir()
        (left / "half").touch()  # by a run that was killed while it wrote

        def fill(folder: Path) -> None:
            assert not list(out.iterdir())
            assert not list(folder.iterdir())
            (folder / "base").mkdir()
            facts = {"command": "evovlm zoo train", "files": {"base/config.json": ""}}
            (folder / "manifest.json").write_text(json.dumps(facts))

        finish(work, out, fill)
    assert sorted(path.name for path in out.iterdir()) == ["base", "manifest.json"]
    assert list(tmp_path.iterdir()) == [out]
    assert is_finished(out, "evovlm zoo train", ("base",))
    assert not is_finished(out, "evovlm zoo train", ("base", "ja"))
    assert not is_finished(out, "evovlm zoo train --seed 1", ("base",))


def test_a_folder_beside_the_zoo_keeps_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with unfinished(Path("zoo/"), SETTINGS) as work:
        assert work == Unfinished(tmp_path / ".zoo.part")
