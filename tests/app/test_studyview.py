"""What the page shows of a study: rows that are called alike, a tie, and studies that cannot be read."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evovlm.report.data import read_study
from evovlm_app.catalogue import Offering
from evovlm_app.evolution import _look
from evovlm_app.searches import Searches
from evovlm_app.studyview import changed_answers, held_out_table, state_line
from evovlm_app.words import Language
from tests.report.study_folder import make_study


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    make_study(tmp_path / "studies" / "one", trials=12)
    return tmp_path / "studies"


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def look(studies: Path, language: Language = "en") -> str:
    """The page's line on the state of study `one`."""
    context: Any = SimpleNamespace(offering=Offering((), (), studies), searches=Searches(studies))
    return str(_look(context, "one", None, language)[1])


def test_a_source_called_as_the_winner_has_a_name_of_its_own(studies: Path):
    path = studies / "one" / "result.json"
    held = json.loads(path.read_text(encoding="utf-8"))["held_out"]
    held["sources"]["evolved"] = held["sources"].pop("ja")
    change(path, held_out=held)
    page = held_out_table(read_study(studies / "one"), "en")
    assert page.count("<th scope=row>evolved</th>") == 1
    assert "<th scope=row>source evolved</th>" in page


@pytest.mark.parametrize(("language", "head"), [("ja", "内容の正解"), ("en", "content")])
def test_what_answers_say_has_a_column_where_it_is_known(studies: Path, language: Language, head: str):
    assert head not in held_out_table(read_study(studies / "one"), language)
    path = studies / "one" / "result.json"
    held = json.loads(path.read_text(encoding="utf-8"))["held_out"]
    for row in (held["evolved"], *held["sources"].values()):
        row["content"] = 0.625
    held["controls"]["tsv"] = {"error": "left out: no base"}
    change(path, held_out=held)
    page = held_out_table(read_study(studies / "one"), language)
    assert f"<th scope=col>{head}</th>" in page
    assert page.count("<td>62%</td>") == 1 + len(held["sources"])
    assert "<td colspan=4>left out: no base</td>" in page


def test_a_tie_is_said_instead_of_a_best_score(studies: Path):
    path = studies / "one" / "trials.jsonl"
    assert "best" in state_line(read_study(studies / "one"), Searches(studies), "en")
    rows = [json.loads(line) | {"score": 0.0, "error": None} for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    line = state_line(read_study(studies / "one"), Searches(studies), "en")
    assert "all tied at 0.00, no best" in line


@pytest.mark.parametrize(
    ("name", "content"),
    [("study.json", '{"format": 99}'), ("study.json", ""), ("trials.jsonl", "[]\n"), ("trials.jsonl", "{}\n")],
)
@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_study_that_cannot_be_read_says_so_and_the_page_goes_on(
    studies: Path, name: str, content: str, language: Language
):
    (studies / "one" / name).write_text(content, encoding="utf-8")
    shown = look(studies, language)
    assert 'data-state="unreadable"' in shown
    assert str(studies) not in shown


@pytest.mark.parametrize("name", ["result.json", "events.jsonl", "heldout_answers.jsonl", "answers.jsonl", "best.yaml"])
def test_a_damaged_part_costs_that_part(studies: Path, name: str):
    (studies / "one" / name).write_text("[1]\n", encoding="utf-8")
    assert 'data-done="12"' in look(studies)


def test_a_header_without_items_shows_answers_without_questions(studies: Path):
    header = json.loads((studies / "one" / "study.json").read_text(encoding="utf-8"))
    del header["items"]
    (studies / "one" / "study.json").write_text(json.dumps(header), encoding="utf-8")
    assert "<article>" in changed_answers(read_study(studies / "one"), "en")


def test_a_recipe_that_cannot_be_read_hides_no_other_study(studies: Path):
    (studies / "one" / "best.yaml").write_text("seed: 2026-13-99\n", encoding="utf-8")
    mixable: Any = SimpleNamespace(recipe=None)
    assert Offering((), (), studies).evolved(mixable) is None
