"""Which sources? Candidate models of one family ranked for a task by cheap means, with reasons.

Knows assemblies, an evaluator and kinship; no searches and no command line. A source's worth is what it adds to those
chosen before it in one-shot merges: greedy forward selection, so that a copy of a good source comes after it, however
good it is alone. All merges are asked the same items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evovlm.assembly import assemble
from evovlm.errors import CANDIDATE_FAULTS, RecipeError
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.genome import uniform
from evovlm.kinship import Kinship, kinship
from evovlm.metrics.statistics import paired_difference
from evovlm.recipe import Base, Recipe, Source
from evovlm.tasks import Item, parse_split

# One-shot merges are made at these multiples of 1 / sqrt(number of sources), which keeps the length of orthogonal
# task vectors; the better one counts.
STRENGTHS = (0.6, 1.0)
ALIKE = 0.5  # a cosine above which two sources count as kin

Step = Callable[[str], None]


@dataclass(frozen=True)
class Suggestion:
    """A source in its place: what it scores alone, with those before it, and what it adds, in points."""

    source: str
    alone: float
    together: float
    adds: float
    low: float  # 95 % interval of `adds`, paired over items
    high: float
    norm: float
    reason: str


@dataclass(frozen=True)
class Advice:
    """The ranking, the base's own score, the task vectors' kinship, and how many answers it took."""

    base_score: float
    ranking: tuple[Suggestion, ...]
    kinship: Kinship
    answers: int


def suggest(
    base: str, models: Sequence[str], data: str, *, items: int, seed: int, root: Path, device: str, step: Step
) -> Advice:
    """Rank language models that were tuned from one base, for a task (TASK:SPLIT).

    Raises RecipeError for fewer than two models or a test split, and whatever opening the models raises.
    """
    task, split = parse_split(data)
    if split in task.test_splits:
        raise RecipeError(f"--data {data}: a test set; choose sources on another split")
    recipe = _recipe(base, models, seed)
    assembly = assemble(recipe, root)
    step("task vectors")
    found = kinship(assembly)
    shots = _Shots(
        LocalEvaluator(assembly, task, batch=150, device=device), recipe, task.items(split, items, seed), step
    )
    return Advice(shots.of(()).score, tuple(_ranked(shots, recipe.source_names, found, seed)), found, shots.answers)


class _Shots:
    """One-shot merges of subsets of the sources, each made once."""

    def __init__(self, evaluator: LocalEvaluator, recipe: Recipe, items: Sequence[Item], step: Step) -> None:
        self._evaluator, self._recipe, self._items, self._step = evaluator, recipe, items, step
        self._known: dict[frozenset[str], Evaluation] = {}
        self.answers = 0

    def of(self, sources: Sequence[str]) -> Evaluation:
        """The better of the subset's merges; nothing but zeros where all of them fail."""
        key = frozenset(sources)
        if key not in self._known:
            strengths = STRENGTHS if sources else (0.0,)
            made = [self._merge(sources, strength) for strength in strengths]
            self._known[key] = max(made, key=lambda one: one.score)
            self._step(" + ".join(sources) or "base")
        return self._known[key]

    def _merge(self, sources: Sequence[str], strength: float) -> Evaluation:
        weight = strength / math.sqrt(max(1, len(sources)))
        weights = {name: weight if name in sources else 0.0 for name in self._recipe.source_names}
        self.answers += len(self._items)
        try:
            return self._evaluator.evaluate(uniform(self._recipe, weights), self._items)
        except CANDIDATE_FAULTS:
            count = len(self._items)
            return Evaluation((0.0,) * count, (False,) * count, ("",) * count)


def _ranked(shots: _Shots, names: Sequence[str], found: Kinship, seed: int) -> list[Suggestion]:
    """Greedy forward selection; the first is the one that a pair can least do without."""
    chosen: list[str] = []
    ranking = []
    while len(chosen) < len(names):
        left = [name for name in names if name not in chosen]
        if chosen:
            best = max(left, key=lambda name: shots.of([*chosen, name]).score)
        else:
            best = max(left, key=lambda name: _worth(shots, name, names))
        best = _original(shots, chosen, best, left, found, seed)
        before, after = shots.of(chosen), shots.of([*chosen, best])
        gain = paired_difference(after.scores, before.scores, seed=seed)
        ranking.append(
            Suggestion(
                source=best,
                alone=shots.of([best]).score,
                together=after.score,
                adds=gain.mean,
                low=gain.low,
                high=gain.high,
                norm=found.norms[best],
                reason=_reason(best, tuple(chosen), gain.low, gain.high, found),
            )
        )
        chosen.append(best)
    return ranking


def _original(shots: _Shots, chosen: Sequence[str], best: str, left: Sequence[str], found: Kinship, seed: int) -> str:
    """Of the best source and its kin that score no worse, the shortest task vector: noise lengthens a copy."""
    top = shots.of([*chosen, best])
    alike = [best]
    for name in left:
        if name == best or found.cosine(name, best) <= ALIKE:
            continue
        gap = paired_difference(top.scores, shots.of([*chosen, name]).scores, seed=seed)
        if gap.low <= 0:
            alike.append(name)
    return min(alike, key=lambda name: found.norms[name])


def _worth(shots: _Shots, name: str, names: Sequence[str]) -> float:
    """A Shapley value cut off at pairs: what a source adds to nothing, and on average to one other source."""
    others = [other for other in names if other != name]
    pairs = [shots.of([name, other]).score - shots.of([other]).score for other in others]
    return (shots.of([name]).score - shots.of([]).score + sum(pairs) / len(pairs)) / 2


def _reason(source: str, chosen: tuple[str, ...], low: float, high: float, found: Kinship) -> str:
    """Why a source stands where it stands, in a sentence."""
    closest = found.closest(source, chosen)
    words = "adds to those above" if low > 0 else "takes away from those above" if high < 0 else "adds nothing certain"
    if not chosen:
        words = "adds most, to the base and to the others"
    if closest is not None and closest[1] > ALIKE:
        words += f"; its task vector is much like {closest[0]}'s (cosine {closest[1]:.2f})"
    elif closest is not None:
        pair = closest[0], source
        conflict = found.conflicts.get(pair, found.conflicts.get((pair[1], pair[0]), 0.0))
        words += f"; cosine {closest[1]:.2f} and {conflict:.0%} of signs against {closest[0]}"
    return words


def _recipe(base: str, models: Sequence[str], seed: int) -> Recipe:
    if len(models) < 2:
        raise RecipeError("give two models or more, or a folder that holds them")
    named: dict[str, str] = {}
    for model in models:
        name = model.removeprefix("zoo:").rstrip("/").rsplit("/", 1)[-1]
        named[name if name not in named else f"{name}-{len(named)}"] = model
    return Recipe(
        kind="llm",
        base=Base(model=base),
        sources=tuple(Source(name=name, model=model) for name, model in named.items()),
        method="task_arithmetic",
        seed=seed,
    )
