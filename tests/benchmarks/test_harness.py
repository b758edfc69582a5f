"""The command of lm-evaluation-harness; the harness itself is an extra and runs where it is installed."""

import json
from pathlib import Path

import pytest

from benchmarks import harness
from evovlm.errors import UserError
from evovlm.zoo.manifest import zoo_folder
from tests.benchmarks.conftest import bench

CALL = {"device": "cuda", "batch": "auto", "dtype": "auto", "limit": None}


def test_without_the_harness_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"evovlm\[lmeh\]"):
        harness.harness_command("python", tmp_path, [], out=tmp_path, **CALL)  # type: ignore[arg-type]


def test_the_japanese_group_is_asked_unless_tasks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: object())
    command = harness.harness_command("python", Path("merged"), [], out=tmp_path, **CALL)  # type: ignore[arg-type]
    assert command == [
        *("python", "-m", "lm_eval", "--model", "hf", "--model_args", "pretrained=merged,dtype=auto"),
        *(
            "--tasks",
            "japanese_leaderboard",
            "--device",
            "cuda",
            "--batch_size",
            "auto",
            "--output_path",
            str(tmp_path),
        ),
    ]
    some = harness.harness_command("python", Path("m"), ["a", "b"], out=tmp_path, **(CALL | {"limit": 5}))  # type: ignore[arg-type]
    assert some[some.index("--tasks") + 1] == "a,b"
    assert some[-2:] == ["--limit", "5"]


def test_a_vision_model_is_refused():
    with pytest.raises(UserError, match="language models"):
        harness.refuse_vlm(zoo_folder("vlm"))
    harness.refuse_vlm(zoo_folder("ja"))


def test_the_newest_results_are_read(tmp_path: Path):
    with pytest.raises(UserError, match="no results"):
        harness.read_scores(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "results_1.json").write_text(json.dumps({"results": {"ja": {"acc,none": 0.5}}}), encoding="utf-8")
    assert harness.read_scores(tmp_path) == {"ja": {"acc,none": 0.5}}


def test_the_environment_stays_offline_unless_asked():
    assert harness.harness_environment(download=False)["HF_DATASETS_OFFLINE"] == "1"


def test_the_command_refuses_a_vision_model_in_a_sentence(tmp_path: Path):
    done = bench("lmeh", "zoo:vlm", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert "vision-language model" in done.stderr
