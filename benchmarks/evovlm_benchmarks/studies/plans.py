"""The list of studies, and the arms that each compares.

Knows recipes; runs nothing. Every arm of a study has the same number of evaluations of the same items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evovlm.recipe.schema import Recipe
from evovlm_benchmarks.studies.arms import Arm

DATA = {"search": "zoo-maths:search", "validation": "zoo-maths:validation", "test": "zoo-maths:test"}
MODELS = [{"name": "ja", "model": "zoo:ja"}, {"name": "math", "model": "zoo:math"}]
# With two maths fine-tunes, task vectors conflict, which sign election and dropping can resolve.
THREE = [*MODELS, {"name": "math2", "model": "zoo:math2"}]
ROUTE: dict[str, Any] = {"repeats": 1, "ordered": True}


@dataclass(frozen=True)
class Budget:
    """One arm's budget: candidates, and questions per candidate."""

    trials: int = 200
    items: int = 100


@dataclass(frozen=True)
class StudyPlan:
    """One study: its name, its question, and a function that makes its arms."""

    name: str
    question: str
    arms: Callable[[Budget, Sequence[int]], list[Arm]]


def routes(budget: Budget, seeds: Sequence[int]) -> list[Arm]:
    """DFS of two models: one scale per transition, scales from a network, and no scales."""
    return [
        Arm("routes", name, routed(budget, seed, scales=scales))
        for name, scales in (("with scales", "matrix"), ("network", "network"), ("no scales", "none"))
        for seed in seeds
    ]


def searchers(budget: Budget, seeds: Sequence[int]) -> list[Arm]:
    """The same space for every searcher."""
    names = ("cmaes", "cmaes_margin", "ga", "hybrid", "two_stage", "random")
    return [Arm("searchers", name, routed(budget, seed, algorithm=name)) for name in names for seed in seeds]


def drop(budget: Budget, seeds: Sequence[int]) -> list[Arm]:
    """TIES alone, DARE alone, both, neither; drop by norm instead of random drop."""
    methods = {
        "neither": "task_arithmetic",
        "TIES alone": "ties",
        "DARE alone": "dare_linear",
        "both": "dare_ties",
        "drop by norm": "magnitude",
    }
    return [
        Arm("drop", name, merged(budget, seed, method, models=THREE))
        for name, method in methods.items()
        for seed in seeds
    ]


def spaces(budget: Budget, seeds: Sequence[int]) -> list[Arm]:
    """Parameter space, data-flow space, and both with half the budget each."""
    half = Budget(budget.trials // 2, budget.items)
    arms = [Arm("spaces", "PS", merged(budget, seed, "dare_ties")) for seed in seeds]
    arms += [Arm("spaces", "DFS", routed(budget, seed)) for seed in seeds]
    for seed in seeds:
        then = {"search": routed(half, seed).model_dump(mode="json", by_alias=True)["search"]}
        both = merged(half, seed, "dare_ties").model_dump(mode="json", by_alias=True) | {"then": then}
        arms.append(Arm("spaces", "PS + DFS", Recipe.model_validate(both)))
    return arms


def routed(budget: Budget, seed: int, *, algorithm: str = "hybrid", scales: str = "matrix") -> Recipe:
    """A search for routes through the Japanese and the maths model, starting with the Japanese one."""
    return Recipe.model_validate(
        {
            "kind": "llm",
            "sources": MODELS,
            "owner": "ja",
            "method": "passthrough",
            "search": {
                "algorithm": algorithm,
                "trials": budget.trials,
                "population": 20,
                "items": budget.items,
                "batch": budget.items,
                "seed": seed,
                "route": ROUTE | {"scales": scales},
            },
            "data": DATA,
        }
    )


def merged(budget: Budget, seed: int, method: str, models: Sequence[Mapping[str, str]] = MODELS) -> Recipe:
    """A search for weights and densities, one each per quarter of the layers, of the same two models or of three."""
    return Recipe.model_validate(
        {
            "kind": "llm",
            "base": {"model": "zoo:base"},
            "sources": models,
            "owner": "ja",
            "method": method,
            "options": {"normalize": False},
            "groups": 4,
            "search": {
                "trials": budget.trials,
                "items": budget.items,
                "batch": budget.items,
                "weight": [0.0, 1.5],
                "density": [0.1, 1.0],
                "seed": seed,
            },
            "data": DATA,
        }
    )


STUDIES = {
    plan.name: plan
    for plan in (
        StudyPlan("routes", "Does a route beat its sources, and what do the scales do?", routes),
        StudyPlan("searchers", "Which searcher finds the best route in as many evaluations?", searchers),
        StudyPlan("drop", "Must task vectors be thinned at random, by norm, or at all?", drop),
        StudyPlan("spaces", "Parameter space, data-flow space, or both?", spaces),
    )
}
