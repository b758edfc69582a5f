"""`evovlm doctor`, as a person runs it, on machines that lack something."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm.cli import _diagnosis
from evovlm.methods.kernels import triton_is_there
from evovlm.models import zoo_models
from evovlm.system.machine import check_memory, writable

# Notes any connection that is opened, and refuses it.
GUARD = """
import pathlib, socket
def refuse(self, address):
    pathlib.Path({marker!r}).write_text(str(address))
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = refuse
"""


def doctor(
    *words: str, shadow: Path, before: Callable[[], Any] | None = None, **environment: str
) -> tuple[int, dict[str, dict[str, str]], str]:
    """Exit code, findings by name, and standard error; modules in `shadow` stand in for those that are installed."""
    path = os.pathsep.join(filter(None, [str(shadow), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "evovlm", "doctor", "--json", *words],
        env=dict(os.environ) | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        cwd=shadow,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr
    content = json.loads(done.stdout)
    assert content["works"] == (done.returncode == 0)
    return done.returncode, {one["name"]: one for one in content["findings"]}, done.stderr


def test_a_machine_that_has_all_is_well_and_nobody_is_asked(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(GUARD.format(marker=str(tmp_path / "asked")))
    code, found, _ = doctor(shadow=tmp_path, HF_HUB_OFFLINE="0")
    assert code == 0
    assert not (tmp_path / "asked").exists()
    assert {"python", "packages", "dictionary", "zoo", "hub cache", "disk", "memory", "open files"} <= set(found)
    assert f"torch {torch.__version__}" in found["packages"]["found"]
    assert all(found[name]["level"] == "ok" for name in ("packages", "dictionary", "zoo"))
    assert {f"extra {name}" for name in ("gpu", "app", "lid", "lmeh", "optuna", "ray")} <= set(found)
    assert all(one["advice"] for one in found.values() if one["level"] != "ok")


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))


def test_all_that_is_amiss_is_told_at_once(tmp_path: Path):
    """A dictionary that is not there, a cache that cannot be written, offline, few open files, small files, ASCII."""
    (tmp_path / "unidic_lite.py").write_text("DICDIR = '/nowhere/dicdir'")
    (tmp_path / "file").write_text("not a folder")
    hidden = {"HF_HOME": str(tmp_path / "file" / "hf"), "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    code, found, _ = doctor(shadow=tmp_path, before=few_files, **hidden)
    assert code == 2
    assert (found["dictionary"]["level"], found["hub cache"]["level"]) == ("error", "warning")
    assert found["dictionary"]["found"].startswith("MeCab does not start (RuntimeError: ")
    assert "Japanese answers cannot be scored; pip install" in found["dictionary"]["advice"]
    assert f"{tmp_path / 'file'}: Not a directory" in found["hub cache"]["found"]
    assert "set HF_HOME" in found["hub cache"]["advice"]
    assert "ulimit -n 4096" in found["open files"]["advice"]
    assert "--max-shard-gb" in found["file size"]["advice"]
    assert "PYTHONUTF8=1" in found["output"]["advice"]
    assert found["zoo"]["level"] == "ok", "one fault hides no other part"


@pytest.mark.slow
def test_a_torch_that_does_not_load_is_told_with_what_it_said(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    code, found, _ = doctor(shadow=tmp_path)
    assert code == 2
    assert found["torch"]["found"] == "cannot be loaded (OSError: libcudart.so.13: cannot open shared object file)"
    assert found["memory"]["level"] in ("ok", "warning")


@pytest.mark.slow
def test_the_table_says_the_same_in_words(tmp_path: Path):
    (tmp_path / "fugashi.py").write_text("raise ImportError('[no] module')")
    environment = dict(os.environ) | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-P", "-m", "evovlm", "doctor"]
    done = subprocess.run(command, env=environment | {"COLUMNS": "200"}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "MeCab does not start (ImportError: [no] module): Japanese answers cannot be scored" in done.stdout
    # Before it a slow machine tells how long the checks take.
    assert done.stderr.splitlines()[-1] == "broken: dictionary"


def test_a_requirement_that_is_not_met_is_told():
    told = dict(_diagnosis._misfits(["evovlm-that-is-not-there>=1", "numpy<1", "numpy>=1"]))
    assert told["evovlm-that-is-not-there>=1"] == "evovlm-that-is-not-there is not installed"
    assert told["numpy<1"].endswith(", not <1")
    assert len(told) == 2
    assert any(text.startswith("torch") for text in _diagnosis._requirements()[None])
    assert any(text.startswith("ray") for text in _diagnosis._requirements()["ray"])


def test_a_damaged_zoo_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    zoo = shutil.copytree(zoo_models.FOLDER, tmp_path / "zoo")
    (zoo / "ja" / "config.json").write_text("{}")
    monkeypatch.setattr(zoo_models, "FOLDER", zoo)
    zoo_models.zoo_folder.cache_clear()
    try:
        (found,) = _diagnosis._zoo()
    finally:
        zoo_models.zoo_folder.cache_clear()
    assert found.level == "error"
    assert "config.json: damaged" in found.found


@pytest.mark.skipif(not triton_is_there(), reason="needs the extra evovlm[gpu]")
def test_the_kernels_are_tried(monkeypatch: pytest.MonkeyPatch):
    """On a GPU, or in Triton's interpreter: a wrong result is told like one that does not come."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert _diagnosis.check_kernels(device).level == "ok"
    monkeypatch.setattr("evovlm.methods.kernels.tabulate.draw_sums", lambda *_: [].pop())
    found = _diagnosis.check_kernels(device)
    assert found.level == "warning"
    assert "IndexError" in found.found
    assert "C compiler" in found.advice


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_told_with_its_memory_and_driver():
    found = {one.name: one for one in _diagnosis._torch()}
    assert found["gpu 0"].level == "ok"
    assert torch.cuda.get_device_name(0) in found["gpu 0"].found
    assert "driver" in found["gpu 0"].found


def test_the_cache_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("models--owner--name", "models--owner--other", "datasets--owner--set"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "blobs" / "0").write_bytes(bytes(10**8))
    assert _diagnosis._contents(tmp_path) == "2 models, 1 data sets, 0.3 GB"
    monkeypatch.setattr(_diagnosis, "WALKED", 1)
    assert _diagnosis._contents(tmp_path) == "2 models, 1 data sets, more than 0.1 GB"
    assert _diagnosis._contents(tmp_path / "absent") == "empty"


def test_where_no_file_can_be_made_is_told(tmp_path: Path):
    assert writable(tmp_path / "new" / "folder") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert writable(tmp_path / "file" / "folder") == f"{tmp_path / 'file'}: Not a directory"


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "memory.max").write_text("2000000000\n")
    monkeypatch.setattr("evovlm.system.machine.CONTAINER_LIMITS", (str(tmp_path / "memory.max"),))
    (found,) = check_memory()
    assert found.level == "warning"
    assert "this container may use 2.0 GB" in found.found
    (tmp_path / "memory.max").write_text("max\n")
    (found,) = check_memory()
    assert "container" not in found.found
