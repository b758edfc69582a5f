"""Which controls a winner must beat, among how many candidates each was chosen, and on what."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evolution._controls import CONTROLS, contestants, searched
from evovlm.evolution._held_out import Contestant, judge
from evovlm.merging.assembly import assemble
from evovlm.recipe.route import Step
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.tasks import Item, load_task
from evovlm.tasks.item_sets import ItemSet

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TASK = load_task("zoo-maths")
ITEMS = tuple(Item(str(number), f"{number}?", ("1",), None) for number in range(4))
TEST = ItemSet("test", "zoo-maths:test", TASK, ITEMS)
CHOICE = ItemSet(
    "validation", "zoo-maths:validation", TASK, tuple(Item(f"v{one.id}", "?", ("1",), None) for one in ITEMS)
)


class Scoring:
    """An evaluator of real models' recipes that scores by a rule, and notes which items were asked."""

    def __init__(self, recipe: Recipe, score: Callable[[Recipe], float]) -> None:
        self.assembly, self._score = assemble(recipe, RECIPES), score
        self.engine, self.batch, self.on_halved = SimpleNamespace(device="cpu", dtype=None), 1, None
        self.asked: list[str] = []

    def evaluate(self, recipe: Recipe, items: ItemSet) -> Evaluation:
        self.asked.append(items.name)
        return Evaluation((self._score(recipe),) * len(items), (False,) * len(items), ("x",) * len(items))


def rows_of(name: str, score: Callable[[Recipe], float], **changes: Any) -> tuple[list[Contestant], Scoring]:
    recipe = read_recipe(RECIPES / name).model_copy(update=changes)
    evaluator = Scoring(recipe, score)
    rows = contestants(evaluator, recipe, TEST, CHOICE, lambda text: None, trials=100)  # type: ignore[arg-type]
    return rows, evaluator


def near(source: str, best: float) -> Callable[[Recipe], float]:
    """A rule: the nearer a source's weight to the best one, the better."""
    return lambda recipe: 100 - abs(float(recipe.of(source).weight) - best)  # type: ignore[arg-type]


def told(rows: Sequence[Contestant]) -> dict[str, tuple[dict[str, Any], str | None, int | None]]:
    return {row.name: (dict(row.detail), row.chosen_on, row.tries) for row in rows if row.section != "sources"}


def test_a_vlms_controls_in_order_with_what_each_was_chosen_on():
    rows, evaluator = rows_of("zoo-vlm.yaml", near("ja", 0.3))
    digest = evaluator.assembly.recipe.digest()
    assert [row.name for row in rows[:3]] == ["base", "vlm", "ja"]
    assert list(told(rows).items()) == [
        ("evolved", ({"digest": digest}, "validation", 100)),
        ("average", ({}, None, 1)),
        ("plugged_in", ({"source": "ja"}, None, 1)),
        ("sweep", ({"weight": 0.3, "of": "one weight for all task vectors"}, "validation", 11)),
        ("interpolation", ({"weight": 0.3, "of": "ja"}, "validation", 11)),
        ("shuffled_images", ({"digest": digest}, None, 1)),
    ]
    assert set(evaluator.asked) == {"validation"}, "nothing is chosen on the test"
    assert len(evaluator.asked) == 22


def test_a_language_models_controls():
    rows, evaluator = rows_of("zoo-llm.yaml", near("math2", 0.7))
    assert list(told(rows)) == ["evolved", "average", "sweep", "single_vector"]
    assert told(rows)["single_vector"] == ({"source_and_weight": "math2:0.7"}, "validation", 33)
    row = next(row for row in rows if row.name == "single_vector")
    assert row.evaluate().score == 100
    assert evaluator.asked[-1] == "test"


def test_a_routes_controls():
    route = tuple(Step(source="ja", layer=layer, scale=1.5 if layer else 1.0) for layer in range(8))
    rows, evaluator = rows_of("zoo-dfs.yaml", lambda recipe: float(len(recipe.route)), route=route)
    digest = evaluator.assembly.recipe.digest()
    assert told(rows) == {
        "evolved": ({"digest": digest}, "validation", 100),
        "without_scales": ({"digest": digest}, None, 1),
        "layers_of_math": ({}, None, 1),
    }
    assert evaluator.asked == []
    by_name = {row.name: row for row in rows}
    assert by_name["layers_of_math"].evaluate().score == 8


def test_a_control_that_fails_everywhere_but_at_one_weight_takes_that():
    def fails(recipe: Recipe) -> float:
        if recipe.of("ja").weight != 0.4:
            raise ValueError("every answer is empty")
        return 1.0

    rows, _ = rows_of("zoo-vlm.yaml", fails)
    assert told(rows)["sweep"][0]["weight"] == 0.4


def test_another_searchs_winner_was_chosen_among_its_trials():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    row = searched(Scoring(recipe, near("ja", 1)), "random_search", recipe, TEST, CHOICE, trials=50)  # type: ignore[arg-type]
    assert told([row]) == {"random_search": ({"digest": recipe.digest(), "trials": 50}, "validation", 50)}


def test_every_control_has_a_name_of_its_own_and_the_report_knows_it():
    from evovlm.report.words import CONTROL_NAMES

    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)
    assert {name for name in names if "{}" not in name} <= set(CONTROL_NAMES)


def test_answers_that_were_stored_before_tries_were_told_are_found_again(tmp_path: Path):
    keys = ["evolved digest=abc", "sweep of=one weight for all task vectors weight=0.3"]
    lines = [
        {"model": key.split()[0], "key": key, "id": item.id, "question": "?", "references": ["1"]}
        | {"answer": "1", "score": 50.0, "exact": False}
        for key in keys
        for item in ITEMS
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / study_log.HELD_OUT_ANSWERS).write_text(text, encoding="utf-8")

    def again() -> Evaluation:
        pytest.fail("a stored answer was generated again")

    sweep = {"weight": 0.3, "of": "one weight for all task vectors"}
    rows = [
        Contestant("evolved", "evolved", again, {"digest": "abc"}, chosen_on="validation", tries=100),
        Contestant("sweep", "controls", again, sweep, chosen_on="validation", tries=11),
    ]
    table = judge(tmp_path, rows, TEST, searched="zoo-maths", seed=0, progress=lambda text: None)
    assert table.controls["sweep"].model_dump(exclude_unset=True, exclude={"versus_evolved"}) == {
        "score": 50.0,
        "exact": 0.0,
        "ci95": (50.0, 50.0),
        "items": 4,
        **sweep,
        "chosen_on": "validation",
        "tries": 11,
    }
    assert (tmp_path / study_log.HELD_OUT_ANSWERS).read_text(encoding="utf-8") == text
