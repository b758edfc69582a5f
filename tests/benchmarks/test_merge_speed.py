import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from evovlm.system.errors import UserError
from evovlm_benchmarks import merge_speed

TINY = merge_speed.Scale(16, 32, 2, 4, 2, 24)


def test_checkpoints_are_what_transformers_makes_of_their_config(tmp_path: Path):
    from transformers import AutoConfig, AutoModelForCausalLM

    models = merge_speed.make_checkpoints(tmp_path, TINY, 2)
    assert list(models) == ["base", "source1", "source2"]
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(models["source2"]))
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    stored = load_file(models["source2"] / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in stored.items()} == expected
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}


def test_sources_differ_a_little_from_the_base_and_from_each_other(tmp_path: Path):
    models = merge_speed.make_checkpoints(tmp_path, TINY, 2)
    base, one, two = (load_file(folder / "model.safetensors")["lm_head.weight"].float() for folder in models.values())
    for other in (one, two):
        difference = (other - base).std() / base.std()
        assert 0.05 < difference < 0.2
    assert not torch.equal(one, two)


def test_memory_that_a_process_takes_is_seen(tmp_path: Path):
    hold = "import sys, time; data = b'x' * 200_000_000; time.sleep(0.5); open(sys.argv[1], 'w')"
    run = merge_speed.measure("evovlm", [sys.executable, "-c", hold], tmp_path / "out", watched=True)
    assert 200e6 < run.anonymous < 400e6
    assert run.resident >= run.anonymous
    assert run.seconds is None, "watching takes time"


def test_a_page_that_a_forked_child_shares_counts_once(tmp_path: Path):
    hold = "import os, time; data = b'x' * 200_000_000; child = os.fork(); time.sleep(1); child and os.wait()"
    run = merge_speed.measure("evovlm", [sys.executable, "-c", hold], tmp_path / "out", watched=True)
    assert 200e6 < run.anonymous < 300e6


def test_a_tool_that_fails_or_cannot_be_started_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fails = "import sys; print('Traceback'); print('KeyError: 1'); sys.exit(3)"
    with pytest.raises(UserError, match=r"^mergekit failed with exit code 3: KeyError: 1$"):
        merge_speed.measure("mergekit", [sys.executable, "-c", fails], tmp_path / "out", watched=False)
    assert "Traceback" in capsys.readouterr().out
    program = tmp_path / "mergekit-yaml"
    program.write_bytes(b"\x7fELF, but not really")
    program.chmod(0o755)
    with pytest.raises(UserError, match="mergekit-yaml: cannot be started"):
        merge_speed.measure("mergekit", [str(program)], tmp_path / "out", watched=False)


def test_a_timed_run_is_not_watched(tmp_path: Path):
    run = merge_speed.measure("evovlm", [sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path, watched=False)
    assert run.seconds is not None
    assert run.seconds > 0.2
    assert run.anonymous == run.resident == 0


def test_the_floor_copies_as_many_bytes_as_the_output_has(tmp_path: Path):
    models = merge_speed.make_checkpoints(tmp_path, TINY, 1)
    assert merge_speed.copy_floor(models, tmp_path / "copy") > 0
    copied = (tmp_path / "copy" / "model.safetensors").read_bytes()
    assert copied == (models["base"] / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_without_mergekit_evovlm_is_measured_alone(tmp_path: Path, monkeypatch):
    import typer

    monkeypatch.setitem(merge_speed.SCALES, "tiny", TINY)
    app = typer.Typer()
    app.command()(merge_speed.main)
    words = ["--scale", "tiny", "--rounds", "1", "--work", str(tmp_path), "--json", str(tmp_path / "speed.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "speed.json").read_text())
    assert [run["tool"] for run in content["runs"]] == ["evovlm", "evovlm"]
    timed, watched = content["runs"]
    assert timed["seconds"] > 0
    assert watched["anonymous"] > 0
    assert content["mergekit"] is None
    assert content["copy_seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"], "checkpoints are removed"
