"""The racer: a generation's candidates raced over items by one evaluator, through the cache.

Knows an evaluator, items and races; no searchers and no study folders. What earlier generations answered decides which
items are asked; a racer must therefore see all generations in order, and the cache makes that free after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evovlm.errors import CANDIDATE_FAULTS
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.race import RaceSettings, item_order, looks, race
from evovlm.recipe import Recipe
from evovlm.tasks import Item

# Scores that the choice of items looks back on; older candidates tell little about what is hard now.
REMEMBERED = 300


@dataclass(frozen=True)
class RacedEvaluation(Evaluation):
    """An evaluation on the items seen, positions `seen`; its score is made comparable with the others'."""

    seen: tuple[int, ...] = ()
    comparable: float = float("nan")

    @property
    def score(self) -> float:
        """The mean, corrected for which items were seen."""
        return self.comparable


class Racer:
    """Races generations. `answers`: how many answers its races have asked for, cached ones included."""

    def __init__(self, evaluator: LocalEvaluator, items: Sequence[Item], settings: RaceSettings, seed: int) -> None:
        self._evaluator = evaluator
        self._items = list(items)
        self._settings = settings
        self._seed = seed
        self._known: NDArray[np.float64] = np.full((0, len(items)), np.nan)  # [candidates, items]
        self.answers = 0
        evaluator.prepare(self._items)

    def __call__(self, generation: int, recipes: Sequence[Recipe], center: Recipe) -> list[RacedEvaluation | str]:
        """Each recipe's evaluation, or why it failed; the center, which nothing drops, comes last."""
        rng = np.random.default_rng([self._seed, generation])
        pool = len(self._items)
        order = item_order(self._known[-REMEMBERED:], self._settings, rng)[: looks(pool, self._settings)[-1]]
        asked = _Asked(self._evaluator, self._items, [*recipes, center])
        found = race(asked.ask, len(recipes), len(recipes) // 2, order, pool, self._settings)
        asked.ask([len(recipes)], order)
        self.answers += asked.answers
        self._known = np.concatenate([self._known, asked.scores])
        shift = self._easier(order)
        middle = float(np.mean(asked.scores[-1, order]))
        return [asked.outcome(place, order, score + shift) for place, score in enumerate([*found.scores, middle])]

    def _easier(self, order: Sequence[int]) -> float:
        """By how much all items are easier than the order's, going by earlier answers; shrunk towards none."""
        known = self._known[-REMEMBERED:]
        asked = ~np.isnan(known)
        if not asked.any():
            return 0.0
        overall = float(known[asked].mean())
        means = (np.where(asked, known, 0.0).sum(axis=0) + 2 * overall) / (asked.sum(axis=0) + 2)
        return float(means.mean() - means[list(order)].mean())


class _Asked:
    """What the candidates of one generation have answered so far."""

    def __init__(self, evaluator: LocalEvaluator, items: Sequence[Item], recipes: Sequence[Recipe]) -> None:
        self._evaluator = evaluator
        self._items = items
        self._recipes = recipes
        self._parts: list[dict[int, Evaluation]] = [{} for _ in recipes]  # first position -> evaluation
        self._errors: dict[int, str] = {}
        self.scores = np.full((len(recipes), len(items)), np.nan)
        self.answers = 0

    def ask(self, candidates: Sequence[int], places: Sequence[int]) -> NDArray[np.float64]:
        """Scores [candidates, places]; NaN for a candidate that fails."""
        for candidate in candidates:
            try:
                part = self._evaluator.evaluate(self._recipes[candidate], [self._items[place] for place in places])
            except CANDIDATE_FAULTS as fault:
                self._errors[candidate] = f"{type(fault).__name__}: {fault}"
                continue
            self._parts[candidate][places[0]] = part
            self.scores[candidate, list(places)] = part.scores
            self.answers += len(places)
        found: NDArray[np.float64] = self.scores[np.ix_(list(candidates), list(places))]
        return found

    def outcome(self, candidate: int, order: Sequence[int], score: float) -> RacedEvaluation | str:
        """One candidate's evaluation over all its blocks, or its fault."""
        if candidate in self._errors:
            return self._errors[candidate]
        parts = list(self._parts[candidate].values())
        whole = parts[0]
        for part in parts[1:]:
            whole = _joined(whole, part)
        return RacedEvaluation(
            whole.scores,
            whole.exact,
            whole.answers,
            whole.seconds,
            seen=tuple(order[: len(whole.scores)]),
            comparable=score,
        )


def _joined(one: Evaluation, other: Evaluation) -> Evaluation:
    phases = sorted({*one.seconds, *other.seconds})
    return replace(
        one,
        scores=one.scores + other.scores,
        exact=one.exact + other.exact,
        answers=one.answers + other.answers,
        seconds={phase: round(one.seconds.get(phase, 0.0) + other.seconds.get(phase, 0.0), 4) for phase in phases},
    )
