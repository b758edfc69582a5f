"""Measure the pace of a search on this machine: load its models, and let a few candidates answer a few questions.

Knows plans and evaluators; writes nothing. It stops after a few seconds, or after one step if that takes longer.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from itertools import cycle

import psutil
import torch

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evolution.forecast import Pace, crowded_in_words, means_of, spread_of
from evovlm.evolution.plan import Plan
from evovlm.merging.assembly import with_recipe
from evovlm.merging.build import merging_seconds
from evovlm.recipe.schema import Recipe
from evovlm.search.space.parameters import search_of
from evovlm.system.device import check_device
from evovlm.system.faults import failure_of
from evovlm.system.machine import crowding
from evovlm.system.units import duration
from evovlm.tasks.item_sets import ItemSet

FEWEST = 4  # questions of the first step
GROWTH = 4  # each step asks so many times as many as the one before
SECONDS = 6.0  # no step is begun that would end later than this
REPEATS = 3  # further steps like the largest, by other candidates: they show how much the time varies


@dataclass(frozen=True)
class _Step:
    """A candidate that was asked some questions. Times in seconds; `characters`: of all answers."""

    questions: int
    preparing: float
    merging: float
    answering: float
    whole: float
    characters: int


def measure(plan: Plan, *, builds: bool) -> Pace:
    """The pace of a plan's search on this machine. `builds`: whether checkpoints will be written.

    Raises what loading raises, and CandidateFault or FloatingPointError if no candidate of the first generation works.
    """
    settings, began = plan.settings, time.perf_counter()
    before = time.time() - psutil.Process().create_time()
    device = check_device(settings.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    evaluator = LocalEvaluator(
        plan.assembly,
        batch=search_of(plan.recipe).batch,
        device=settings.device,
        keeping=settings.keeping,
        self_check=settings.self_check,
    )
    load = time.perf_counter() - began
    items = plan.search_items
    candidates = [plan.express(plan.recipe, plan.genes, genome) for genome in plan.searcher().ask()]
    _first_that_works(evaluator, candidates, plan)
    started = time.perf_counter() - began
    steps = _steps(evaluator, candidates, items)
    answered = [(step.questions, step.answering) for step in steps]
    whole, crowded = time.perf_counter() - began, crowding()
    told = (
        f"measured on this machine just now, in {duration(whole)}: the models loaded, {len(steps) + 1} candidates"
        f" merged, {steps[0].questions} to {steps[-1].questions} questions asked{crowded_in_words(crowded)}"
    )
    return Pace(
        start=before + started,
        prepare=sum(step.preparing for step in steps) / sum(step.questions for step in steps),
        merge=min(step.merging for step in steps),
        answers=means_of(answered),
        load=load,
        build=merging_seconds(with_recipe(plan.assembly, candidates[0])) if builds else 0.0,
        length=sum(step.characters for step in steps) / sum(step.questions for step in steps),
        host=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        gpu=torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0,
        whence=told,
        spread=spread_of(answered, crowded),
    )


def _steps(evaluator: LocalEvaluator, candidates: list[Recipe], items: ItemSet) -> list[_Step]:
    """Steps of more and more questions, each by another candidate, then some of as many as the last."""
    steps: list[_Step] = []
    one_by_one, count, repeats = cycle(candidates), min(FEWEST, len(items)), 0
    began = time.perf_counter()
    while True:
        steps.append(_step(evaluator, next(one_by_one), items[:count]))
        left = SECONDS - (time.perf_counter() - began)
        if count < len(items) and not repeats and GROWTH * steps[-1].whole < left:
            count = min(GROWTH * count, len(items))
        elif repeats < REPEATS and (repeats == 0 or steps[-1].whole < left):
            repeats += 1  # at least one: without it nothing is known of the spread
        else:
            return steps


def _step(evaluator: LocalEvaluator, recipe: Recipe, items: ItemSet) -> _Step:
    began = time.perf_counter()
    evaluator.prepare(items)
    prepared = time.perf_counter() - began
    found = evaluator.evaluate(recipe, items)
    return _Step(
        questions=len(items),
        preparing=prepared,
        merging=found.seconds["merge"],
        answering=found.answering + found.seconds["score"],
        whole=time.perf_counter() - began,
        characters=sum(len(answer) for answer in found.answers),
    )


def _first_that_works(evaluator: LocalEvaluator, candidates: list[Recipe], plan: Plan) -> None:
    """Evaluate a candidate for the work that all share, such as task vectors; those that fail are taken out."""
    items = plan.search_items[:FEWEST]
    while True:
        try:
            evaluator.evaluate(candidates[0], items)
        except Exception as fault:
            failure_of(fault)
            if len(candidates) == 1:
                raise
            candidates.pop(0)
        else:
            return
