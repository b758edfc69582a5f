"""A damaged file costs the report that file alone, and the reader is told; what nothing can stand for is an error."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evovlm.report import write_report
from evovlm.report.data import read_study
from tests.command import evovlm_here
from tests.report.study_folder import make_study

ATLAS: dict[str, Any] = {
    "axes": ["colour", "place"],
    "steps": 10,
    "trials": 12,
    "fresh_items": 4,
    "coverage": 0.01,
    "qd_score": 50.0,
    "best": 50.0,
    "cells": [
        {
            "cell": [3, 4],
            "trial": 2,
            "score": 50.0,
            "profile": {"colour": 35.0, "place": 45.0},
            "digest": "d",
            "recipe": "atlas/cell-3-4.yaml",
            "fresh": None,
        }
    ],
}
NESTED = "[" * 100_000


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = make_study(tmp_path / "study", trials=12)
    (folder / "atlas.json").write_text(json.dumps(ATLAS), encoding="utf-8")
    return folder


def test_a_whole_study_is_reported_without_a_note_and_with_its_atlas(study: Path):
    told: list[str] = []
    page = write_report(study, told.append).read_text(encoding="utf-8")
    assert told == []
    assert "Atlas of merges" in page


def cell(**changes: Any) -> str:
    return json.dumps(ATLAS | {"cells": [ATLAS["cells"][0] | changes]})


PARTS = [
    ("result.json", ""),
    ("result.json", "null"),
    ("result.json", '{"held_out": {"evolved": {"score": NaN, "exact": 0, "ci95": [0, 1]}}}'),
    ("result.json", NESTED),
    ("atlas.json", "{}"),
    ("atlas.json", "[]"),
    ("atlas.json", cell(cell=[3, 10])),
    ("atlas.json", cell(profile={})),
    ("atlas.json", cell(score="high")),
    ("events.jsonl", "[1, 2]\n"),
    ("events.jsonl", '{"time": "2026{"time": "2026-11-28", "event": "resumed"}\n'),
    ("events.jsonl", NESTED + "\n"),
    ("events.jsonl", "\xff\n"),
    ("events.jsonl", "\xff\xfe\x00\x7f"),
    ("answers.jsonl", "{}\n"),
    ("answers.jsonl", '{"trial": "x", "id": 3, "answer": null, "score": "y"}\n'),
    ("heldout_answers.jsonl", '{"model": "ja"}\n'),
    ("heldout_answers.jsonl", "3\n"),
    ("best.yaml", "sources: ["),
    ("best.yaml", "kind: llm\n"),
]


@pytest.mark.parametrize(("name", "content"), PARTS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(PARTS)])
def test_a_damaged_file_is_left_out_and_named(study: Path, name: str, content: str):
    (study / name).write_bytes(content.encode("latin-1"))
    done = evovlm_here("report", "study", folder=study.parent)
    assert done.returncode == 0, done.stderr
    assert f"note: study/{name}" in done.stderr
    page = (study / "report.html").read_text(encoding="utf-8")
    assert f"study/{name}" in page
    assert "Score over trials" in page


@pytest.mark.parametrize("name", ["events.jsonl", "answers.jsonl", "heldout_answers.jsonl"])
def test_the_lines_of_a_log_that_are_left_out_are_named(study: Path, name: str):
    rows = (study / name).read_bytes().splitlines(keepends=True)
    damaged = [rows[0], b"\xff\x00\n", *rows[1:], b'{"none": 1}\n' if name != "events.jsonl" else b"3\n", b"[]\n"]
    (study / name).write_bytes(b"".join([*damaged, b"\xfe", b"\xfe" * 9]))
    notes, last = list(read_study(study).notes), len(damaged)
    if name == "events.jsonl":
        assert notes == [f"{study / name}:2: damaged line, and so are {last - 1}, {last}, {last + 1}; left out"]
    else:
        assert f"{study / name}:2: damaged line, and so are {last}, {last + 1}; left out" in notes
        assert f"{study / name}:{last - 1}: not an answer; left out" in notes
    (study / name).write_bytes(b"".join([*rows, rows[0][:9]]))
    told = [] if name == "events.jsonl" else [f"{study / name}: its last line is unfinished; left out"]
    assert list(read_study(study).notes) == told
    (study / "result.json").unlink()
    assert not read_study(study).notes, "a row that is still being written is no damage"


@pytest.mark.parametrize("key", ["items", "genes", "search", "versions", "data", "hardware", "generation"])
@pytest.mark.parametrize("damage", ["gone", None, 3, [3], {"ids": 3}])
def test_a_header_without_one_of_its_parts_is_reported(study: Path, key: str, damage: Any):
    path = study / "study.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    header.pop(key, None)
    path.write_text(json.dumps(header | ({} if damage == "gone" else {key: damage})), encoding="utf-8")
    write_report(study)
    assert "Score over trials" in (study / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": float("nan")}, r"trials\.jsonl:4: not a trial \(score: Input should be a finite number"),
        ({"genome": [0.5]}, r"trials\.jsonl:4: 1 genes, but study\.json names 16"),
        ({"trial": 7}, r"trials\.jsonl:4: found trial 7, expected trial 3"),
    ],
)
def test_a_trial_that_cannot_be_made_again_is_an_error_before_anything_is_written(
    study: Path, change: dict[str, Any], told: str
):
    path = study / "trials.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[3] |= change
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = evovlm_here("report", "study", folder=study.parent)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert re.search(told, done.stderr.replace("\n", " "))
    assert not (study / "report.html").exists()
    assert not (study / "scores.svg").exists()


def test_a_study_of_a_newer_format_is_not_reported(study: Path):
    path = study / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": 7}), encoding="utf-8")
    done = evovlm_here("report", "study", folder=study.parent)
    assert done.returncode == 2
    assert "a study of format 7" in done.stderr


def test_a_tie_is_told_instead_of_a_winner(study: Path):
    path = study / "trials.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row | {"score": 0.0, "error": None}) + "\n" for row in rows), encoding="utf-8")
    assert read_study(study).tied == 12
    page = write_report(study).read_text(encoding="utf-8")
    assert page.count("The search found no best candidate: all 12 scored 0.00 on the search items") == 2
    assert "better, by more than" not in page
    (study / "result.json").unlink()
    assert "No candidate is the best so far: all 12 scored 0.00" in write_report(study).read_text(encoding="utf-8")
