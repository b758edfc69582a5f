"""Weights that all but cancel where a method divides by their sum: refused, and only there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.unfit_weights import refuse_unfit_weights, unfit_weights
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.hub_layouts import make_tokenizer, save_llm


def recipe(method: str, weights: list[Any], models: list[str] | None = None, **keys: Any) -> Recipe:
    names = [f"s{number}" for number in range(len(weights))]
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": (models or ["a"])[0]},
        "sources": [{"name": name, "model": (models or ["a"])[0]} for name in names],
        "method": method,
        "parameters": {name: {"weight": weight} for name, weight in zip(names, weights, strict=True)},
    }
    return Recipe.model_validate(content | keys)


@pytest.mark.parametrize(
    ("method", "weights", "options"),
    [
        ("linear", [1.0, -0.9995], {}),
        ("linear", [0.1, 0.2, -0.3], {}),  # 5.6e-17 in double precision
        ("task_arithmetic", [1.0, -0.9995], {"normalize": True}),
        ("slerp", [-1999.0, 2000.0], {}),  # mergekit's t = 2000
        ("ties", [1.0, 1.0, -0.9995], {}),  # the sum is 1, but where two sources agree it is 5e-4
        ("linear", [0.5, {"embeddings": -0.499}], {}),
        ("linear", [-0.5, {"embeddings": 2.0, "head": 0.501}], {}),
        ("linear", [-1.001, {"embeddings": 3.0}], {}),  # in groups that no one names a weight is 1
    ],
)
def test_sums_that_multiply_differences_a_hundred_times_are_refused(
    method: str, weights: list[Any], options: dict[str, Any]
):
    with pytest.raises(RecipeError, match=r"weights of '\w+': .* all but cancel .* multiplies differences \d+ times"):
        refuse_unfit_weights(recipe(method, weights, options=options))


@pytest.mark.parametrize(
    ("method", "weights", "options"),
    [
        ("linear", [1.0, -0.9995], {"normalize": False}),
        ("task_arithmetic", [1.0, -0.9995], {}),  # does not divide unless told to
        ("task_arithmetic", [1.0, -1.0], {"normalize": True}),  # a sum of 0 counts as 1
        ("ties", [0.0, 0.0], {}),
        ("ties", [1e-6, 1e-6], {}),  # small, but of one sign: the quotient is an average
        ("della", [1.0, -0.5], {}),
        ("slerp", [0.7, 0.3], {}),
        ("model_stock", [1.0, -1.0001], {}),
    ],
)
def test_other_weights_are_not(method: str, weights: list[Any], options: dict[str, Any]):
    assert list(unfit_weights(recipe(method, weights, options=options))) == []


def test_a_factor_of_twenty_is_told_and_allowed():
    (group, share, text), *_ = unfit_weights(recipe("linear", [1.0, -0.9]))
    assert (group, round(1 / share)) == ("whole", 19)
    assert "19 times" in text
    refuse_unfit_weights(recipe("linear", [1.0, -0.9]))


def test_a_live_merge_refuses_them_before_it_changes_a_weight(tmp_path: Path):
    save_llm(tmp_path / "a", rows=600, tokenizer=make_tokenizer(600))
    fine = recipe("linear", [1.0, 0.5], [str(tmp_path / "a")])
    assembly = assemble(fine, Path())
    tower = {job.name: torch.nn.Parameter(torch.zeros(job.shape)) for job in assembly.jobs}
    merger = ResidentMerger(assembly, tower)
    with pytest.raises(RecipeError, match="all but cancel"):
        merger.merge(fine.weighted({"s0": 1.0, "s1": -0.9995}))
    assert not any(bool(parameter.any()) for parameter in tower.values())
    with pytest.raises(RecipeError, match=r"parameters: weights of 'whole': .* all but cancel"):
        assemble(fine.weighted({"s0": 1.0, "s1": -0.9995}), Path())
