"""`result.json` is read as it was written, by whichever version; a damaged one is told by name and key."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evovlm.study import log as study_log
from evovlm.study.result import Result, read_result, write_result
from evovlm.system.errors import StudyError

CELL: dict[str, Any] = {
    "score": 60.125,
    "exact": 0.25,
    "ci95": [58.0, 62.5],
    "items": 40,
    "versus_evolved": {"mean": 1.5, "ci95": [-0.5, 3.0]},
}
# Everything that a study may leave, with the keys in the order in which they have always been written.
WHOLE: dict[str, Any] = {
    "digest": "abc",
    "task": "zoo-vqa",
    "data": {
        "search": "zoo-vqa:search",
        "validation": None,
        "test": "zoo-vqa:test",
        "preset": None,
        "search_items": 24,
        "left_out": 0,
    },
    "trials": 6,
    "selection": {
        "trial": 3,
        "search_score": 70.5,
        "choice_score": 72.25,
        "luck": -1.75,
        "items": 40,
        "finalists": [{"trial": 3, "search_score": 70.5, "choice_score": 72.25}],
    },
    "held_out": {
        "sources": {"ja": CELL | {"model": "ja"}},
        "controls": {"average": CELL, "sweep": CELL | {"weight": 0.5, "of": "one weight for all task vectors"}},
        "evolved": CELL | {"digest": "abc"},
    },
    "seed": 0,
    "versions": {"evovlm": "0.1.0", "commit": "368cf2f"},
    "hardware": "2 cores",
    "seconds": 12.5,
    "front": {
        "objectives": ["score", "layers"],
        "points": [{"trial": 2, "recipe": "front/point-01.yaml", "values": {"score": 60.0, "layers": -8.0}}],
        "hypervolume": [1.0, 2.5],
    },
    "profile": {
        "trials": 5,
        "rates": {"device": "cpu", "copy": 1e9, "matrix": 1e12, "dtype": "float32", "upload": None},
        "phases": {"merge": {"seconds": 0.5, "floor": None, "ratio": None}},
    },
    "atlas": {
        "axes": ["colour", "place"],
        "steps": 10,
        "trials": 6,
        "fresh_items": 40,
        "coverage": 0.02,
        "qd_score": 120.0,
        "best": 70.5,
    },
    "checkpoint": "/studies/one/checkpoint",
}


def written(folder: Path, content: Any) -> Result | None:
    (folder / study_log.RESULT).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_result(folder)


def test_a_result_is_written_again_byte_for_byte(tmp_path: Path):
    result = written(tmp_path, WHOLE)
    before = (tmp_path / study_log.RESULT).read_bytes()
    assert result is not None
    write_result(tmp_path, result)
    assert (tmp_path / study_log.RESULT).read_bytes() == before


def test_keys_that_came_later_have_defaults_and_are_not_written(tmp_path: Path):
    old = {"held_out": {"evolved": {"score": 1.0, "exact": 0.0, "ci95": [0.0, 2.0]}}}
    result = written(tmp_path, old)
    assert result is not None
    assert (result.trials, result.selection, result.data.test, result.held_out.controls) == (None, None, None, {})
    assert result.held_out.evolved.versus_evolved is None
    assert result.content() == old


def test_keys_of_another_version_are_kept(tmp_path: Path):
    newer = WHOLE | {"mood": ["good"], "held_out": {"evolved": CELL | {"colour": "blue"}, "judges": 3}}
    result = written(tmp_path, newer)
    assert result is not None
    assert result.content() == newer


def test_a_result_cannot_be_changed(tmp_path: Path):
    result = written(tmp_path, WHOLE)
    assert result is not None
    with pytest.raises(ValidationError, match="frozen"):
        result.held_out.evolved.score = 100.0  # type: ignore[misc]


def test_a_difference_is_certain_where_its_interval_leaves_zero_out(tmp_path: Path):
    versus = [{"mean": 1.0, "ci95": interval} for interval in ([0.1, 2.0], [-2.0, -0.1], [-1.0, 1.0], [0.0, 1.0])]
    cells = {str(number): CELL | {"versus_evolved": found} for number, found in enumerate(versus)}
    result = written(tmp_path, {"held_out": {"controls": cells, "evolved": CELL}})
    assert result is not None
    found = [cell.versus_evolved for cell in result.held_out.controls.values()]
    assert [difference.certain for difference in found if difference is not None] == [True, True, False, False]


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (None, None),  # an older version's
        (40, None),
        (20, None),
        (4, "The test has 4 pictures, with 40 items in all, only: resampling fewer than 20"),
    ],
)
def test_intervals_from_few_pictures_come_with_a_caution(tmp_path: Path, groups: int | None, told: str | None):
    result = written(tmp_path, {"data": {"test_groups": groups}, "held_out": {"evolved": CELL}})
    assert result is not None
    assert result.caution is None if told is None else str(result.caution).startswith(told)


@pytest.mark.parametrize(
    ("worth", "told"),
    [(None, None), (40.0, None), (37.0, None), (22.5, "The 40 test items share pictures: they are worth at least 22")],
)
def test_items_that_share_pictures_are_told_to_be_worth_fewer(tmp_path: Path, worth: float | None, told: str | None):
    data = {"test_groups": 30, "test_effective": worth}
    result = written(tmp_path, {"data": data, "held_out": {"evolved": CELL | {"items": 40}}})
    assert result is not None
    assert result.caution is None if told is None else str(result.caution).startswith(told)


def test_a_difference_is_certain_where_its_corrected_p_value_is_below_5_per_cent(tmp_path: Path):
    versus = [{"mean": 1.0, "ci95": [0.1, 2.0], "p_value": 0.01, "p_corrected": value} for value in (0.049, 0.05)]
    cells = {str(number): CELL | {"versus_evolved": found} for number, found in enumerate(versus)}
    result = written(tmp_path, {"held_out": {"controls": cells, "evolved": CELL}})
    assert result is not None
    found = [cell.versus_evolved for cell in result.held_out.controls.values()]
    assert [difference.certain for difference in found if difference is not None] == [True, False]


def test_intervals_from_few_items_come_with_a_caution(tmp_path: Path):
    result = written(tmp_path, {"data": {"test_groups": 5}, "held_out": {"evolved": CELL | {"items": 5}}})
    assert result is not None
    assert "The test has 5 items only" in str(result.caution)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Expecting property name"),
        ("[]", "valid dictionary"),
        (json.dumps({"held_out": {}}), r"held_out\.evolved: Field required"),
        (json.dumps(WHOLE | {"trials": "many"}), "trials: "),
    ],
)
def test_a_damaged_result_is_told_by_file_and_key_with_the_way_out(tmp_path: Path, text: str, told: str):
    (tmp_path / study_log.RESULT).write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=rf"result\.json: damaged \(.*{told}.*\); the study's `evovlm evolve`"):
        read_result(tmp_path)


def test_a_study_in_its_search_has_no_result(tmp_path: Path):
    assert read_result(tmp_path) is None
