"""The command of lm-evaluation-harness; the harness itself is an extra and runs where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest

from evovlm.models.zoo_models import zoo_folder
from evovlm.system.errors import UserError
from evovlm_benchmarks.runner import harness
from tests.command import bench

CALL = {"device": "cuda", "batch": "auto", "dtype": "auto", "limit": None}


def test_without_the_harness_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"evovlm\[lmeh\]"):
        harness.harness_command("python", tmp_path, [], out=tmp_path, **CALL)  # type: ignore[arg-type]


def test_the_japanese_group_is_asked_unless_tasks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "find_spec", lambda name: object())
    command = harness.harness_command("python", Path("merged"), [], out=tmp_path, **CALL)  # type: ignore[arg-type]
    assert command == [
        *("python", "-P", "-m", "lm_eval", "--model", "hf", "--model_args", "pretrained=merged,dtype=auto"),
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


def test_pickled_weights_are_refused(tmp_path: Path):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"never read")
    done = bench("lmeh", "pickled", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert "evovlm convert" in done.stderr


def written(folder: Path, results: dict[str, dict[str, Any]], groups: dict[str, Any] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"results": results, "groups": groups or {}}
    (folder / "results_2026.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_newest_results_are_read(tmp_path: Path):
    """As version 0.4.13 writes them: METRIC,FILTER and its standard error; a group's row is none of its tasks."""
    with pytest.raises(UserError, match="no results"):
        harness.read_scores(tmp_path)
    row = {
        "alias": "ja",
        "sample_len": 30,
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "em,strip": 0.25,
        "em_stderr,strip": "N/A",
    }
    written(tmp_path / "m", {"ja": row, "group": {"acc,none": 0.5}}, {"group": {"acc,none": 0.5}})
    assert harness.read_scores(tmp_path) == [
        harness.TaskScore("ja", "acc", 0.5, 0.1),
        harness.TaskScore("ja", "em", 0.25, None),
    ]


def test_jp_lmeh_is_the_mean_of_all_its_tasks_or_nothing():
    scores = [harness.TaskScore(task, "acc", number / 10, None) for number, task in enumerate(harness.TASKS)]
    assert harness.japanese_average(scores) == pytest.approx(35.0)
    assert harness.japanese_average(scores[1:]) is None


def test_a_leaderboard_has_jp_lmeh_beside_the_papers(tmp_path: Path):
    scores = [harness.TaskScore(task, "acc", 0.5, None) for task in harness.TASKS]
    assert harness.write_summary(tmp_path, "mine", scores) == 50.0
    done = bench("leaderboard", ".", "--json", folder=tmp_path)
    rows = json.loads(done.stdout)
    assert {"task": "jp-lmeh", "model": "mine", "score": 50.0, "source": "ours"}.items() <= rows[-1].items()
    assert rows[0]["model"] == "EvoLLM-JP-7B (PS)"
    assert "similar, but not the same" in bench("leaderboard", ".", folder=tmp_path).stdout


def test_the_environment_stays_offline_and_runs_no_data_code_unless_asked():
    careful = harness.harness_environment(download=False, data_code=False)
    assert (careful["HF_DATASETS_OFFLINE"], careful["HF_DATASETS_TRUST_REMOTE_CODE"]) == ("1", "0")
    assert harness.harness_environment(download=True, data_code=True)["HF_DATASETS_TRUST_REMOTE_CODE"] == "1"


def test_the_command_refuses_a_vision_model_in_a_sentence(tmp_path: Path):
    done = bench("lmeh", "zoo:vlm", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert "vision-language model" in done.stderr
