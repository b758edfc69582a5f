"""A search's sources, unmerged: answered by the resident model where only weights differ, otherwise loaded apart."""

from pathlib import Path

import pytest

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.single_model import answer_as_is, answer_source
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.recipe.yaml_file import read_recipe

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@pytest.mark.parametrize(("name", "resident"), [("zoo-llm", {"base", "ja", "math", "math2"}), ("zoo-vlm", {"vlm"})])
def test_a_source_answers_as_if_it_had_been_loaded(name: str, resident: set[str]):
    plan = plan_evolution(read_recipe(RECIPES / f"{name}.yaml"), RECIPES, EvolveSettings(trials=2, items=6, judged=2))
    assembly, items = plan.assembly, plan.search_items
    evaluator = LocalEvaluator(assembly, batch=8)
    assert assembly.base is not None
    models = {"base": assembly.base, **assembly.sources}
    reasons = {label: evaluator.resident.why_not_as_is(model) for label, model in models.items()}
    assert {label for label, reason in reasons.items() if reason is None} == resident
    merged = evaluator.evaluate(plan.recipe, items)
    for label, model in models.items():
        alone = answer_as_is(model, items, batch=8, device="cpu", dtype=evaluator.engine.dtype)
        assert answer_source(evaluator, model, items).answers == alone.answers, label
    assert evaluator.evaluate(plan.recipe, items).answers == merged.answers
