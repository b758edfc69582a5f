import json
from pathlib import Path

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import moved
from evovlm.system.errors import RecipeError
from evovlm.tasks import Item
from evovlm.tasks.item_sets import clear_of, read_item_sets, refuse_shared


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


def test_a_search_item_that_looks_like_a_test_item_is_left_out():
    search = problems(60)
    copied = item("copy", search[3].question.replace("、", "， "))
    assert clear_of(search, {"test": [copied]}) == [*search[:3], *search[4:]]


def test_sets_that_are_one_are_refused_whatever_their_ids():
    search = problems(20)
    renamed = [item(f"t{one.id}", one.question) for one in search]
    with pytest.raises(RecipeError, match="20 of 20 search items look like"):
        clear_of(search, {"test": renamed})


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
        assert (len(sets.search), len(sets.judging["test"]), sets.left_out) == (59, 61, 1)


def test_the_zoos_splits_do_not_look_alike():
    """Many problems and scenes of one pattern: the checks must tell them apart."""
    for task in ("zoo-maths", "zoo-vqa"):
        sets = read_item_sets(
            recipe(f"{task}:search", f"{task}:test"), Path(), count=300, seed=0, judged=300, download=False
        )
        assert sets.left_out == 0
