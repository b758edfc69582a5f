"""Weights that all but cancel where a method divides by their sum: refused, and only there."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evovlm.merging._unfit_weights import SMALL_SHARE, refuse_unfit_weights, unfit_weights
from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.methods import as_float32
from evovlm.recipe.limits import MOST_SOURCES
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
        ("nuslerp", [-1999.0, 2000.0], {}),
        ("multislerp", [1.0, 1.0, -1.9995], {}),
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
        ("nuslerp", [1.0, -1.0], {}),  # t is 1/2
        ("multislerp", [1.0, -1.0], {"normalize_weights": False}),
        ("multislerp", [0.0], {}),  # a single source is copied
        ("karcher", [1.0, -1.0], {}),
    ],
)
def test_other_weights_are_not(method: str, weights: list[Any], options: dict[str, Any]):
    assert list(unfit_weights(recipe(method, weights, options=options))) == []


def test_multislerp_has_no_direction_where_weights_sum_to_0():
    with pytest.raises(RecipeError, match="sum to 0, and the method divides by their sum"):
        refuse_unfit_weights(recipe("multislerp", [1.0, -1.0]))


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


def all_shares(weights: list[float]) -> float:
    """The smallest share of any subset, by looking at all of them."""
    values = np.array([as_float32(weight) for weight in weights])
    used = (np.arange(1, 2 ** len(values))[:, None] >> np.arange(len(values)) & 1).astype(bool)
    totals, sizes = (used * values).sum(axis=1), (used * np.abs(values)).sum(axis=1)
    return float((np.abs(totals) / sizes).min())


@pytest.mark.parametrize("count", [13, 15])
@pytest.mark.parametrize("negative", [1, 2, 7])
def test_no_subset_is_missed_among_many_sources(count: int, negative: int):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        weights = list(rng.uniform(0.2, 1.0, count - negative)) + list(-rng.uniform(1.0, 12.0 / negative, negative))
        rng.shuffle(weights)
        expected = all_shares(weights)
        found = [share for _, share, _ in unfit_weights(recipe("ties", weights))]
        if expected < SMALL_SHARE:
            assert found[0] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        else:
            assert found == []


def test_three_of_many_sources_that_all_but_cancel_are_refused():
    weights = [*(2.0**power for power in range(3, 17)), 0.5, 0.7, -1.2005]  # no two of them are close
    for given in (weights, weights[::-1]):
        with pytest.raises(RecipeError, match=r"all but cancel .* multiplies differences \d{4} times"):
            refuse_unfit_weights(recipe("ties", given))
    refuse_unfit_weights(recipe("ties", [*weights[:-1], -0.3]))


def test_sums_of_many_sources_that_are_exactly_zero_count_as_one():
    weights = [0.5] * 10 + [-0.5] * 9  # a sum of one, divided by 19 of them
    ((_, share, _),) = unfit_weights(recipe("ties", weights))
    assert share == pytest.approx(1 / 19)


def test_the_most_sources_are_looked_at_in_seconds():
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    with pytest.raises(RecipeError, match="all but cancel"):
        refuse_unfit_weights(recipe("ties", [float(weight) for weight in rng.normal(size=MOST_SOURCES)]))
    refuse_unfit_weights(recipe("ties", [1000.0 * MOST_SOURCES, *(-rng.random(MOST_SOURCES - 1))]))
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(("method", "unfit"), [("linear", True), ("slerp", True), ("task_arithmetic", False)])
def test_a_sum_of_exactly_zero_is_refused_where_it_is_not_one(method: str, unfit: bool):
    options = {"options": {"normalize": True}} if method == "task_arithmetic" else {}
    found = list(unfit_weights(recipe(method, [1.0, -1.0], **options)))
    assert [share for _, share, _ in found] == ([0.0] if unfit else [])
