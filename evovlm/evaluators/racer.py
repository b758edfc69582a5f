"""The racer: races a generation's candidates over items, at a lower fidelity first if the recipe has one.

Knows questions, the function that answers them, and races; no models, searchers or study folders. The answers of
earlier generations decide which items are asked, so a racer must see all generations in order; after a restart, the
cache makes that free. With a lower fidelity the race uses cheap answers, and the best candidates are promoted: they are
asked again at full fidelity, on the items that they saw. The others keep their cheap score, plus the average change
that promotion made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evovlm.evaluators.evaluation import Evaluation, failed_if_silent
from evovlm.evaluators.question import AnswerAll, Question
from evovlm.recipe.schema import Fidelity, Recipe
from evovlm.search.race import Ask, Raced, RaceSettings, item_order, looks, race

Array = NDArray[np.float64]

# The number of latest candidates used to choose items; older ones say little about which items are hard now.
REMEMBERED = 300


@dataclass(frozen=True)
class RacedEvaluation(Evaluation):
    """An evaluation on only the items at the indices `seen`; `comparable`: a score comparable with the others'.

    `cheap`: the score at the lower fidelity, None without one. `promoted`: whether the evaluation is at full fidelity.
    """

    seen: tuple[int, ...] = ()
    comparable: float = float("nan")
    cheap: float | None = None
    promoted: bool = True

    @property
    def score(self) -> float:
        """The mean score, corrected for which items were seen and at which fidelity."""
        return self.comparable


class Racer:
    """Races generations of candidates over `items` items. `answers`: number of answers requested so far."""

    def __init__(
        self, answer: AnswerAll, items: int, settings: RaceSettings, seed: int, fidelity: Fidelity | None = None
    ) -> None:
        self._answer = answer
        self._items = items
        self._settings = settings
        self._seed = seed
        self._fidelity = fidelity
        self._known: Array = np.full((0, items), np.nan)  # [candidates, items]
        self.answers = 0

    def __call__(
        self, generation: int, recipes: Sequence[Recipe], center: Recipe | None
    ) -> list[RacedEvaluation | str]:
        """Return each recipe's evaluation, or why it failed; then the center's, which is never dropped, if given."""
        rng = np.random.default_rng([self._seed, generation])
        order = item_order(self._known[-REMEMBERED:], self._settings, rng)[: looks(self._items, self._settings)[-1]]
        asked = _Asked(self._answer, recipes, self._items, cheap=self._fidelity is not None)
        beside = [] if center is None else [Question(center, tuple(order))]
        found = race(asked.asking(beside), len(recipes), len(recipes) // 2, order, self._items, self._settings)
        middle = asked.beside[0] if beside else None
        self._known = np.concatenate([self._known, asked.scores, self._row(middle, order)])
        self.answers += asked.answers
        shift = self._easier(order)
        outcomes = self._outcomes(generation, asked, recipes, found, order, shift)
        if middle is not None:
            outcomes.append(middle if isinstance(middle, str) else _seen(middle, order, middle.score + shift))
        return outcomes

    def _outcomes(
        self,
        generation: int,
        asked: _Asked,
        recipes: Sequence[Recipe],
        found: Raced,
        order: Sequence[int],
        shift: float,
    ) -> list[RacedEvaluation | str]:
        if self._fidelity is None:
            return [asked.outcome(place, order, score + shift) for place, score in enumerate(found.scores)]
        standing = [place for place, score in enumerate(found.scores) if not np.isnan(score)]
        share = 1.0 if generation % self._fidelity.audit == 0 else self._fidelity.promote
        count = min(len(standing), max(1, round(share * len(recipes))))
        chosen = sorted(standing, key=lambda place: (-found.scores[place], place))[:count]
        full = _Asked(self._answer, recipes, self._items, cheap=False)
        full.ask([(place, order[: found.seen[place]]) for place in chosen])
        self.answers += full.answers
        means = {place: full.mean(place) for place in chosen if place not in full.errors}
        change = float(np.mean([mean - asked.mean(place) for place, mean in means.items()])) if means else 0.0
        outcomes: list[RacedEvaluation | str] = []
        for place, levelled in enumerate(found.scores):
            if place in full.errors or place in asked.errors:
                outcomes.append(full.errors.get(place) or asked.errors[place])
                continue
            cheap, promoted = asked.mean(place), place in means
            score = levelled + shift + (means[place] - cheap if promoted else change)
            done = (full if promoted else asked).outcome(place, order, score)
            outcomes.append(done if isinstance(done, str) else replace(done, cheap=cheap, promoted=promoted))
        return outcomes

    def _row(self, middle: Evaluation | str | None, order: Sequence[int]) -> Array:
        """The center's scores as a row over all items; no row if the race is at a lower fidelity (not comparable)."""
        if middle is None or self._fidelity is not None:
            return np.full((0, self._items), np.nan)
        row = np.full((1, self._items), np.nan)
        if not isinstance(middle, str):
            row[0, list(order)] = middle.scores
        return row

    def _easier(self, order: Sequence[int]) -> float:
        """How much easier all items are than those of `order`, judging by earlier answers; shrunk towards zero."""
        known = self._known[-REMEMBERED:]
        asked = ~np.isnan(known)
        if not asked.any():
            return 0.0
        overall = float(known[asked].mean())
        means = (np.where(asked, known, 0.0).sum(axis=0) + 2 * overall) / (asked.sum(axis=0) + 2)
        return float(means.mean() - means[list(order)].mean())


class _Asked:
    """The answers of one generation's candidates so far, at one fidelity."""

    def __init__(self, answer: AnswerAll, recipes: Sequence[Recipe], items: int, *, cheap: bool) -> None:
        self._answer, self._recipes, self._cheap = answer, recipes, cheap
        self._parts: list[list[Evaluation]] = [[] for _ in recipes]
        self.errors: dict[int, str] = {}
        self.scores: Array = np.full((len(recipes), items), np.nan)
        self.beside: list[Evaluation | str] = []  # evaluations of the questions asked together with the first block
        self.answers = 0

    def asking(self, beside: Sequence[Question]) -> Ask:
        """Return the race's function for asking. `beside` is asked with the first block, so it adds no waiting."""
        more = list(beside)

        def ask(candidates: Sequence[int], places: Sequence[int]) -> Array:
            self.ask([(candidate, places) for candidate in candidates], more)
            more.clear()
            found: Array = self.scores[np.ix_(list(candidates), list(places))]
            return found

        return ask

    def ask(self, wanted: Sequence[tuple[int, Sequence[int]]], beside: Sequence[Question] = ()) -> None:
        """Ask candidates their items, all at once; a failed candidate is put in `errors` and its scores stay NaN."""
        questions = [Question(self._recipes[one], tuple(places), self._cheap) for one, places in wanted]
        answered = self._answer([*questions, *beside])
        self.beside += answered[len(questions) :]
        self.answers += sum(len(question.places or ()) for question in beside)
        for (candidate, places), outcome in zip(wanted, answered, strict=False):
            if isinstance(outcome, str):
                self.errors[candidate] = outcome
                continue
            self._parts[candidate].append(outcome)
            self.scores[candidate, list(places)] = outcome.scores
            self.answers += len(places)

    def mean(self, candidate: int) -> float:
        """Return the mean over the items that a candidate saw."""
        return float(np.nanmean(self.scores[candidate]))

    def outcome(self, candidate: int, order: Sequence[int], score: float) -> RacedEvaluation | str:
        """Return one candidate's evaluation over all its blocks, or its error.

        Only here is it known whether every answer is empty: one block may hold the only questions it does not answer.
        """
        if candidate in self.errors:
            return self.errors[candidate]
        whole, *parts = self._parts[candidate]
        for part in parts:
            whole = _joined(whole, part)
        return _seen(whole, order, score)


def _seen(whole: Evaluation, order: Sequence[int], score: float) -> RacedEvaluation | str:
    judged = failed_if_silent(whole)
    if isinstance(judged, str):
        return judged
    seen = tuple(order[: len(whole.scores)])
    return RacedEvaluation(whole.scores, whole.exact, whole.answers, whole.seconds, seen=seen, comparable=score)


def _joined(one: Evaluation, other: Evaluation) -> Evaluation:
    phases = sorted({*one.seconds, *other.seconds})
    return replace(
        one,
        scores=one.scores + other.scores,
        exact=one.exact + other.exact,
        answers=one.answers + other.answers,
        seconds={phase: round(one.seconds.get(phase, 0.0) + other.seconds.get(phase, 0.0), 4) for phase in phases},
    )
