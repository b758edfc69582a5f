"""`score`: answers made elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from evovlm.system.errors import DataError
from evovlm.tasks import Options, load_task
from evovlm_benchmarks.runner.predictions import score_predictions
from tests.command import bench


def written(folder: Path, rows: list[dict[str, Any]], name: str = "answers.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def score(task: str, path: Path, *, scoring: Any = None) -> dict[str, Any]:
    loaded = load_task(task, Options(scoring=scoring))
    return score_predictions(loaded, "test", path, items=None, seed=0)


def test_words_are_scored_by_rouge(tmp_path: Path):
    rows = [
        {"prediction": "赤い犬", "reference": "赤い犬です"},  # worked by hand: F of 2 of 3 tokens is 0.8
        {"prediction": "猫", "references": ["犬", "猫"]},
        {"prediction": "dog", "reference": "犬"},
    ]
    found = score("custom-vqa", written(tmp_path, rows))
    assert found["score"] == pytest.approx((80 + 100 + 0) / 3)
    assert found["exact"] == pytest.approx(1 / 3)


def test_numbers_are_read_as_asked(tmp_path: Path):
    rows = [
        {"prediction": "答えは1,000円です", "reference": "1000"},
        {"prediction": "答えは-5です", "reference": "-5"},
        {"prediction": "答えは18です", "reference": "18"},
        {"prediction": "The answer is 18", "reference": "18"},
    ]
    path = written(tmp_path, rows)
    assert score("custom-maths", path, scoring="corrected")["score"] == 75.0
    assert score("custom-maths", path, scoring="compatible")["score"] == 25.0
    assert score("custom-maths", path)["beside"]["corrected"] == 100.0


def test_the_command_scores_without_a_model_or_data(tmp_path: Path):
    path = written(tmp_path, [{"id": "a", "prediction": "答えは1,000です", "reference": "1,000"}])
    done = bench(
        "score", "custom-maths", "--predictions", path.name, "--scoring", "compatible", "--json", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["task"], row["score"], row["items"], row["rules"]["scoring"]) == ("custom-maths", 0.0, 1, "compatible")
    told = bench("score", "custom-maths", "--predictions", path.name, "--answers", "--json", folder=tmp_path)
    assert json.loads(told.stdout)["answers"][0]["score"] == 100.0
    assert "custom-maths: 100.00" in bench("score", "custom-maths", "--predictions", path.name, folder=tmp_path).stdout


def test_answers_to_a_known_task_are_matched_by_id_or_position(tmp_path: Path, shared_data: Path):
    task = load_task("mgsm-ja", Options(path=shared_data / "mgsm"))
    items = task.items("test", None, 0)
    rows = [{"id": item.id, "prediction": f"答えは{item.references[0].replace(',', '')}です"} for item in items]
    where = f"mgsm-ja@{shared_data / 'mgsm'}:test"
    for name, content in (
        ("ids.jsonl", list(reversed(rows))),
        ("order.jsonl", [{"prediction": row["prediction"]} for row in rows]),
    ):
        written(tmp_path, content, name)
        done = bench("score", where, "--predictions", name, "--json", folder=tmp_path)
        assert json.loads(done.stdout)["score"] == 100.0
    written(tmp_path, rows[:200], "some.jsonl")
    found = json.loads(bench("score", where, "--predictions", "some.jsonl", "--json", folder=tmp_path).stdout)
    assert (found["score"], found["missing"]) == (80.0, 50)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no rows"),
        ([{"prediction": "1", "reference": "1"}, {"prediction": "1"}], ":2: no reference"),
        ([{"id": "a", "prediction": "1", "reference": "1"}, {"prediction": "1", "reference": "1"}], ":2: no `id`"),
        ([{"id": "a", "prediction": "1", "reference": "1"}] * 2, "answered twice"),
        ([{"reference": "1"}], "prediction"),
        ([{"prediction": "1", "references": []}], r"answers\.jsonl:1: an empty references"),
        ([{"prediction": ["1"], "reference": "1"}], r"answers\.jsonl:1: no text in `prediction`"),
        ([{"prediction": "1", "reference": "いくつか"}], "holds no number"),
        ([{"id": "a", "prediction": "1"}], "name it as custom-maths@FILE"),
    ],
)
def test_a_file_that_cannot_be_matched_is_told_where(tmp_path: Path, rows: list[dict[str, Any]], told: str):
    with pytest.raises(DataError, match=told):
        score("custom-maths", written(tmp_path, rows))


def test_an_answer_of_nothing_is_an_empty_answer(tmp_path: Path):
    found = score("custom-maths", written(tmp_path, [{"prediction": None, "reference": "1"}]))
    assert (found["score"], found["missing"], found["answers"][0].answer) == (0.0, 1, "")


def test_references_may_have_units_and_ids_may_be_numbers(tmp_path: Path):
    rows = [{"id": number, "prediction": f"答えは{number}円です", "reference": f"{number}円"} for number in range(3)]
    assert score("custom-maths", written(tmp_path, rows))["score"] == 100.0
