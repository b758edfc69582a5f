"""What a study leaves beside its tables: the words on its winner's card."""

from pathlib import Path
from typing import Any

from PIL import Image

from evovlm.evolution._export import evaluation_text, save_pictures
from evovlm.report.data import read_study
from evovlm.study.result import Result
from evovlm.tasks import Item
from tests.report.study_folder import make_study

CELL = {"score": 51.254, "exact": 0.25, "ci95": [49.0, 53.5], "items": 600}
HELD_OUT = {"sources": {"ja": CELL | {"score": 12.0}}, "controls": {"sweep": CELL | {"score": 50.0}}, "evolved": CELL}


def text_of(**content: Any) -> str:
    return evaluation_text(Result.model_validate({"held_out": HELD_OUT} | content))


def test_a_held_out_table_is_shown_with_the_luck_of_the_search():
    text = text_of(
        data={"test": "zoo-vqa:test"},
        seed=3,
        hardware="a laptop, 2 cores",
        selection={"trial": 5, "search_score": 55.5, "choice_score": 52.2, "luck": 3.3},
    )
    assert "| **this model** | 51.25 | 49.00 to 53.50 | 25.0 % |" in text
    assert "| source ja | 12.00 |" in text
    assert "| control sweep | 50.00 |" in text
    assert "`zoo-vqa:test` that no search has seen (600 items, seed 3, commit unknown, a laptop, 2 cores)" in text
    assert "scored 55.50 on the search items and 52.20 on fresh items" in text


def test_what_answers_say_is_on_the_card_where_it_is_known():
    assert "content" not in text_of()
    said = {name: CELL | {"content": share} for name, share in (("ja", 0.125), ("evolved", 0.5))}
    held_out = {"sources": {"ja": said["ja"]}, "controls": {}, "evolved": said["evolved"]}
    lines = text_of(held_out=held_out).splitlines()
    assert "| model | score | 95 % interval | content | exact |" in lines
    assert "| source ja | 51.25 | 49.00 to 53.50 | 12.5 % | 25.0 % |" in lines
    assert {line.count("|") for line in lines if line.startswith("|")} == {6}


def test_a_table_from_few_items_is_shown_with_its_caution():
    assert "The test has 8 pictures, with 600 items in all, only" in text_of(data={"test_groups": 8})
    assert "The test has" not in text_of(data={"test_groups": 600})


def test_what_an_older_study_did_not_note_is_called_unknown():
    text = text_of()
    assert "Held-out items of `unknown`" in text
    assert "seed unknown" in text
    assert "on fresh items" not in text


def test_an_items_id_may_be_a_path_and_its_image_stays_in_the_study(tmp_path: Path):
    ids = ["train/0001", "../../outside", "50%", "..", "長い" * 200]
    items = [Item(name, "q", ("a",), lambda: Image.new("RGB", (4, 4), "red")) for name in ids]
    study = make_study(tmp_path / "runs" / "study")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    save_pictures(study / "images", items)
    save_pictures(study / "images", items)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in made} == {study / "images"}
    assert set(ids[:4]) <= set(read_study(study).images)
    assert len(made) == 4, "a name that is too long for a file is left out"
