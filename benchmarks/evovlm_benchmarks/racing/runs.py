"""One search on models, with a fixed subset of the items or with racing: held-out score against answers generated.

Knows plans, evaluators and races. In every arm, the search's center represents what it has found: it is scored on
held-out items after each generation (not counted in the search's answers).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers
from evovlm.evaluators.racer import Racer
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.recipe.shipped import named_recipe
from evovlm.search import Genome
from evovlm.search.race import RaceSettings
from evovlm.tasks.item_sets import ItemSet, read_item_set

SHARES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "all": 1.0}
ARMS = (*SHARES, "race")


@dataclass(frozen=True)
class Setting:
    """Settings shared by all arms."""

    recipe: str  # a file, or a shipped recipe's name
    items: int
    judged: int
    generations: int


@dataclass
class Run:
    """An arm's points (answers so far, held-out score of the center) and its table of scores."""

    arm: str
    seed: int
    points: list[tuple[int, float]] = field(default_factory=list)
    table: list[NDArray[np.float64]] = field(default_factory=list)

    def line(self) -> str:
        """The run as a JSON line."""
        return json.dumps({"arm": self.arm, "seed": self.seed, "points": self.points})


def run_arm(setting: Setting, arm: str, seed: int, on_generation: Callable[[Run], None]) -> Run:
    """Run one arm with one seed; races stop after a quarter of full evaluation's answers."""
    plan = _plan(setting, arm, seed)
    evaluator = LocalEvaluator(plan.assembly, batch=150)
    held_out = read_item_set("test", plan.recipe.data.test, setting.judged, seed)  # type: ignore[union-attr]
    run = Run(arm, seed)
    steps = _raced(plan, evaluator, seed) if arm == "race" else _fixed(plan, evaluator, SHARES[arm], seed, run)
    budget = 0
    for generation, (answers, center) in enumerate(steps):
        if arm != "race" or generation % 2 == 0:
            run.points.append((answers, _judged(plan, evaluator, center, held_out)))
            on_generation(run)
        population = plan.searcher().ask()
        budget = budget or len(population) // (2 if arm == "race" else 1) * setting.generations * setting.items // 4
        if (arm == "race" and answers >= budget) or (arm != "race" and generation == setting.generations):
            break
    return run


def _plan(setting: Setting, arm: str, seed: int) -> Plan:
    recipe = named_recipe(setting.recipe)
    race = RaceSettings() if arm == "race" else None
    settings = EvolveSettings(trials=1000, items=setting.items, seed=seed, judged=2, race=race)
    return plan_evolution(recipe, recipe.root, settings)


def _fixed(plan: Plan, evaluator: LocalEvaluator, share: float, seed: int, run: Run) -> Iterator[tuple[int, Genome]]:
    """Evaluate every candidate on the same random share of the items; yields answers so far and the current center."""
    chosen = np.random.default_rng(seed).permutation(len(plan.search_items))[: round(len(plan.search_items) * share)]
    items = plan.search_items.at(sorted(chosen))
    evaluator.prepare(items)
    searcher, answers = plan.searcher(), 0
    while True:
        genomes = searcher.ask()
        yield answers, _center(genomes)
        found = [evaluator.evaluate(plan.express(plan.recipe, plan.genes, genome), items) for genome in genomes]
        run.table.append(np.array([one.scores for one in found]))
        answers += len(genomes) * len(items)
        searcher.tell(genomes, [one.score for one in found])


def _raced(plan: Plan, evaluator: LocalEvaluator, seed: int) -> Iterator[tuple[int, Genome]]:
    race = plan.race
    assert race is not None
    racer = Racer(LocalAnswers(evaluator, plan.recipe, plan.search_items), len(plan.search_items), race, seed)
    searcher, generation = plan.searcher(), 0
    while True:
        genomes = searcher.ask()
        center = _center(genomes)
        yield racer.answers, center
        recipes = [plan.express(plan.recipe, plan.genes, genome) for genome in [*genomes, center]]
        found = racer(generation, recipes[:-1], recipes[-1])
        searcher.tell(genomes, [None if isinstance(one, str) else one.score for one in found[:-1]])
        generation += 1


def _judged(plan: Plan, evaluator: LocalEvaluator, center: Genome, items: ItemSet) -> float:
    return evaluator.evaluate(plan.express(plan.recipe, plan.genes, center), items).score


def _center(genomes: list[Genome]) -> Genome:
    return tuple(float(value) for value in np.mean(genomes, axis=0))
