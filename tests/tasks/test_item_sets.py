import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import moved
from evovlm.system.errors import RecipeError
from evovlm.tasks import Item, load_task
from evovlm.tasks.item_sets import ItemSet, clear_of, read_item_sets, refuse_shared


def item(key: str, question: str) -> Item:
    return Item(key, question, ("1",), None)


def problems(count: int, start: int = 0) -> list[Item]:
    return [
        item(f"{number}", f"{number}番の箱に{number * 7}個の石があり、太郎は{number + 3}個を取りました。残りは？")
        for number in range(start, start + count)
    ]


def recipe(search: str, test: str) -> Recipe:
    return Recipe.model_validate(
        {
            "kind": "llm",
            "sources": [{"name": "ja", "model": "zoo:ja"}],
            "method": "linear",
            "data": {"search": search, "test": test},
        }
    )


def test_items_that_two_sets_share_are_refused():
    same = item("same", "q")
    with pytest.raises(RecipeError, match="share 1 items, same among them"):
        refuse_shared({"search": [same], "test": [same]})


def test_one_text_about_different_pictures_is_not_shared():
    """As in files of questions from one template, whose made ids are equal."""
    red, blue = (
        replace(item("same", "q"), image=partial(Image.new, "RGB", (8, 8), colour)) for colour in ("red", "blue")
    )
    refuse_shared({"search": [red], "test": [blue]})
    with pytest.raises(RecipeError, match="share 1 items"):
        refuse_shared({"search": [red], "test": [red]})


def test_a_search_item_that_looks_like_a_test_item_is_left_out():
    search = problems(60)
    copied = item("copy", search[3].question.replace("、", "， "))
    assert clear_of(search, {"test": [copied]}) == [*search[:3], *search[4:]]


def test_sets_that_are_one_are_refused_whatever_their_ids():
    search = problems(20)
    renamed = [item(f"t{one.id}", one.question) for one in search]
    with pytest.raises(RecipeError, match="20 of 20 search items look like"):
        clear_of(search, {"test": renamed})


def test_a_validation_set_that_is_the_test_set_under_other_ids_is_refused(tmp_path: Path):
    for name, start in (("search", 0), ("validation", 60), ("test", 60)):
        rows = [
            {"id": f"{name}-{one.id}", "question": one.question.replace("、", "\u3000、"), "reference": "1"}
            for one in problems(20, start)
        ]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    asked = recipe("custom-maths@search.jsonl:search", "custom-maths@test.jsonl:test")
    assert asked.data is not None
    data = asked.data.model_copy(update={"validation": "custom-maths@validation.jsonl:validation"})
    with pytest.raises(
        RecipeError, match=r"20 of 20 validation items look like test items .* other data for validation"
    ):
        read_item_sets(
            asked.model_copy(update={"data": data}), tmp_path, count=None, seed=0, judged=None, download=False
        )


def test_the_sets_of_a_recipe_are_read_from_its_own_folder_and_stay_apart(tmp_path: Path):
    for name, start in (("search", 0), ("test", 60)):
        rows = [{"id": one.id, "question": one.question, "reference": "1"} for one in problems(60, start)]
        rows += [{"id": f"{name}-x", "question": problems(1, 5)[0].question, "reference": "1"}] * (name == "test")
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    asked = recipe("custom-maths@search.jsonl:search", "custom-maths@test.jsonl:test")
    elsewhere = tmp_path / "study"
    elsewhere.mkdir()
    for where, folder in ((asked, tmp_path), (moved(asked, tmp_path, elsewhere), elsewhere)):
        sets = read_item_sets(where, folder, count=None, seed=0, judged=None, download=False)
        assert (len(sets.search), len(sets.test), sets.left_out) == (59, 61, 1)


def test_the_zoos_splits_do_not_look_alike():
    """Many problems and scenes of one pattern: the checks must tell them apart."""
    for task in ("zoo-maths", "zoo-vqa"):
        sets = read_item_sets(
            recipe(f"{task}:search", f"{task}:test"), Path(), count=300, seed=0, judged=300, download=False
        )
        assert sets.left_out == 0


def test_parts_of_a_set_keep_its_task():
    task = load_task("zoo-maths")
    whole = ItemSet("test", "zoo-maths:test", task, tuple(problems(6)))
    parts = [whole[1::2], whole.at([1, 3, 5]), whole.of(item for item in whole if int(item.id) % 2)]
    assert parts[0] == parts[1] == parts[2]
    assert [item.id for item in parts[0]] == ["1", "3", "5"]
    assert all((part.task, part.where, part.name) == (task, "zoo-maths:test", "test") for part in parts)
    assert whole[2].id == "2"
    assert len(whole) == 6


def test_each_set_has_the_task_that_the_recipe_gives_it(tmp_path: Path):
    """The same answer is worth what the set's own task says, not the search's."""
    for name, start in (("search", 0), ("validation", 40), ("test", 80)):
        rows = [{"id": one.id, "question": one.question, "reference": "8個です"} for one in problems(20, start)]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    mixed = recipe("custom-maths@search.jsonl:search", "custom-vqa@test.jsonl:test")
    sets = read_item_sets(mixed, tmp_path, count=5, seed=0, judged=4, download=False)
    assert [(one.task.name, one.where, len(one)) for one in (sets.search, sets.test)] == [
        ("custom-maths", "custom-maths@search.jsonl:search", 5),
        ("custom-vqa", "custom-vqa@test.jsonl:test", 4),
    ]
    assert sets.choice is sets.search
    said = "残りは8個です"
    assert sets.search.task.score(sets.search[0], said).score == 100
    assert 0 < sets.test.task.score(sets.test[0], said).score < 100
    assert mixed.data is not None
    data = mixed.data.model_copy(update={"validation": "custom-vqa@validation.jsonl:validation"})
    chosen = read_item_sets(
        mixed.model_copy(update={"data": data}), tmp_path, count=5, seed=0, judged=4, download=False
    ).choice
    assert (chosen.name, chosen.task.name, len(chosen)) == ("validation", "custom-vqa", 4)
