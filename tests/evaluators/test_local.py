"""The local evaluator on a GPU: what is streamed is merged while prompts are read, but not where answers are timed."""

from pathlib import Path

import pytest
import torch

from evovlm.engines import batches
from evovlm.engines.batches import row_bytes
from evovlm.evaluators._resident import MergedResident
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.merging.live.choose import Keeping
from evovlm.recipe.yaml_file import read_recipe

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("objectives", [(), ("latency",)])
def test_a_merge_is_no_part_of_a_candidates_latency(objectives: tuple[str, ...]):
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    assert recipe.search is not None
    told = {"algorithm": "nsga2"} if objectives else {}
    search = recipe.search.model_copy(update={"objectives": objectives} | told)
    plan = plan_evolution(
        recipe.model_copy(update={"search": search}), RECIPES, EvolveSettings(trials=2, items=8, judged=2)
    )
    evaluator = LocalEvaluator(plan.assembly, batch=8, device="cuda", keeping=Keeping("host"))
    assert isinstance(evaluator.resident, MergedResident)
    assert evaluator.resident.merger.while_read == (not objectives)
    first, second = (evaluator.evaluate(plan.recipe, plan.search_items) for _ in range(2))
    assert first.answers == second.answers


def test_an_automatic_batch_is_chosen_once_by_free_memory_and_reported(monkeypatch: pytest.MonkeyPatch):
    plan = plan_evolution(read_recipe(RECIPES / "zoo-llm.yaml"), RECIPES, EvolveSettings(trials=2, items=8, judged=2))
    told: list[str] = []
    evaluator = LocalEvaluator(plan.assembly, batch="auto", tell=told.append, self_check=False)
    generation = plan.search_items.task.generation
    row = row_bytes(evaluator.engine, generation)
    monkeypatch.setattr(batches, "_free", lambda _: 2 * 5 * row)
    assert max(len(part) for part in evaluator.prepare(plan.search_items).batches) == 4
    monkeypatch.setattr(batches, "_free", lambda _: 0)
    assert evaluator.batch_for(generation) == 4
    assert told == ["batch: auto means 4 questions at a time here, by free memory"]
