"""The racer: races a generation's candidates over items, at a lower fidelity first if the recipe has one.

Knows questions, the function that answers them, and races; no models, searchers or study folders. The answers of
earlier generations decide which items are asked, so a racer must see all generations in order; after a restart, the
cache makes that free. With a lower fidelity the race uses cheap answers, and the best candidates are promoted: they are
asked again at full fidelity, on the items that they saw. The others keep their cheap score, plus the average change
that promotion made. If the recipe's fidelity is `auto`, an audit may find that cheap answers rank too badly; from then
on all races are at full fidelity. Since that is decided by answers too, a restart decides the same.

Where whole pictures are drawn, a race is over pictures: a picture's questions are asked together, and their mean
counts as one score, because questions about one picture are not independent of each other, and sharing it is what
makes them cheap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evovlm.evaluators._audit import Audit, audited
from evovlm.evaluators.evaluation import Evaluation, failed_if_silent
from evovlm.evaluators.question import AnswerAll, Question
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Fidelity
from evovlm.search.race import Ask, Raced, RaceSettings, item_order, looks, race
from evovlm.system.progress import Progress

Array = NDArray[np.float64]

# The number of latest candidates used to choose items; older ones say little about which items are hard now.
REMEMBERED = 300
# Roughly what a cheap answer costs beside one in full: the base tile alone 0.23, products in 8 bits 0.64. For the time
# left, not for results.
CHEAP = 0.4

# Called while a generation is asked, with its number, the number of its candidates (and center), the answers so far,
# and the most that it can take; both are counted as if in full.
OnAnswers = Callable[[int, int, int, int], None]


@dataclass(frozen=True)
class RacedEvaluation(Evaluation):
    """An evaluation on only the items at the indices `seen`; `comparable`: a score comparable with the others'.

    `cheap`: a comparable score at the lower fidelity, None without one. `promoted`: whether the evaluation is at full
    fidelity.
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
    """Races generations of candidates over `items` items. `answers`: number of answers requested so far.

    `audit`: of the last generation, if all of it was evaluated at both fidelities. `cheap_first`: whether the next one
    is raced at the lower fidelity. pictures: the number of each item's picture, if the race is over pictures; empty: it
    is over items. on_answers: see `OnAnswers`; it is not called for answers that are known.
    """

    def __init__(
        self,
        answer: AnswerAll,
        items: int,
        settings: RaceSettings,
        seed: int,
        fidelity: Fidelity | None = None,
        pictures: Sequence[int] = (),
        on_answers: OnAnswers | None = None,
    ) -> None:
        self._answer = answer
        self._rounds = _rounds(pictures or range(items))
        self._settings = settings
        self._seed = seed
        self._fidelity = fidelity
        self._on_answers = on_answers
        self._known: Array = np.full((0, len(self._rounds)), np.nan)  # [candidates, items or pictures]
        self.answers = 0
        self.audit: Audit | None = None
        self.cheap_first = fidelity is not None

    def __call__(
        self, generation: int, recipes: Sequence[Recipe], center: Recipe | None
    ) -> list[RacedEvaluation | str]:
        """Return each recipe's evaluation, or why it failed; then the center's, which is never dropped, if given."""
        rng = np.random.default_rng([self._seed, generation])
        pool = len(self._rounds)
        order = item_order(self._known[-REMEMBERED:], self._settings, rng)[: looks(pool, self._settings)[-1]]
        told = self._told(generation, len(recipes), order, center is not None)
        asked = _Asked(self._answer, recipes, self._rounds, told, cheap=self.cheap_first)
        self.audit = None
        beside = [] if center is None else [Question(center, asked.places(order))]
        found = race(asked.asking(beside), len(recipes), len(recipes) // 2, order, pool, self._settings)
        middle = asked.beside[0] if beside else None
        self._known = np.concatenate([self._known, asked.scores, self._row(middle, order)])
        self.answers += asked.answers
        shift = self._easier(order)
        outcomes = self._outcomes(generation, asked, recipes, found, order, shift, told)
        if middle is not None:
            places = asked.places(order)
            outcomes.append(middle if isinstance(middle, str) else _seen(middle, places, middle.score + shift))
        return outcomes

    def _told(self, generation: int, candidates: int, order: Sequence[int], center: bool) -> _Told:
        """What tells how much of a generation is asked: at most every candidate to the race's end."""
        asked = float(candidates)
        if self._fidelity is not None and self.cheap_first:
            whole, count = _promotion(self._fidelity, generation, candidates)
            asked = CHEAP * candidates + (candidates if whole else count)
        each = sum(len(self._rounds[number]) for number in order)
        return _Told(self._on_answers, generation, candidates + center, each * (asked + center))

    def _outcomes(
        self,
        generation: int,
        asked: _Asked,
        recipes: Sequence[Recipe],
        found: Raced,
        order: Sequence[int],
        shift: float,
        told: _Told,
    ) -> list[RacedEvaluation | str]:
        if self._fidelity is None or not self.cheap_first:
            return [asked.outcome(place, order, score + shift) for place, score in enumerate(found.scores)]
        standing = [place for place, score in enumerate(found.scores) if not np.isnan(score)]
        whole, count = _promotion(self._fidelity, generation, len(recipes))
        chosen = sorted(standing, key=lambda place: (-found.scores[place], place))[: None if whole else count]
        full = _Asked(self._answer, recipes, self._rounds, told, cheap=False)
        full.ask([(place, order[: found.seen[place]]) for place in chosen])
        self.answers += full.answers
        means = {place: full.mean(place) for place in chosen if place not in full.errors}
        change = float(np.mean([mean - asked.mean(place) for place, mean in means.items()])) if means else 0.0
        outcomes: list[RacedEvaluation | str] = []
        for place, levelled in enumerate(found.scores):
            if place in full.errors or place in asked.errors:
                outcomes.append(full.errors.get(place) or asked.errors[place])
                continue
            cheap, promoted = levelled + shift, place in means
            score = cheap + (means[place] - asked.mean(place) if promoted else change)
            done = (full if promoted else asked).outcome(place, order, score)
            outcomes.append(done if isinstance(done, str) else replace(done, cheap=cheap, promoted=promoted))
        if whole:
            self._judge(outcomes, count, full)
        return outcomes

    def _judge(self, outcomes: Sequence[RacedEvaluation | str], promoted: int, full: _Asked) -> None:
        """Compare the cheap scores of a whole generation with its full ones; may end cheap races."""
        assert self._fidelity is not None
        scored = [one for one in outcomes if not isinstance(one, str) and one.cheap is not None]
        self.audit = audited([one.cheap or 0.0 for one in scored], [one.score for one in scored], promoted)
        if self._fidelity.auto and not self.audit.good:
            self.cheap_first = False
            self._known = full.scores  # earlier cheap scores say little about which items are hard in full

    def _row(self, middle: Evaluation | str | None, order: Sequence[int]) -> Array:
        """The center's scores as a row of all rounds; no row if the race is at a lower fidelity (not comparable)."""
        if middle is None or self.cheap_first:
            return np.full((0, len(self._rounds)), np.nan)
        row = np.full((1, len(self._rounds)), np.nan)
        if not isinstance(middle, str):
            row[0, list(order)] = _means(middle.scores, [self._rounds[number] for number in order])
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


def _promotion(fidelity: Fidelity, generation: int, candidates: int) -> tuple[bool, int]:
    """Whether all of a generation are asked in full after cheap answers, and how many are promoted otherwise."""
    return generation % fidelity.audit == 0, max(1, round(fidelity.promote * candidates))


class _Told:
    """Tells how much of a generation is asked; a cheap answer counts as `CHEAP`."""

    def __init__(self, on_answers: OnAnswers | None, generation: int, steps: int, most: float) -> None:
        self._on_answers, self._generation, self._steps, self._most = on_answers, generation, steps, most
        self._done = 0.0

    def asking(self, answers: float) -> Progress | None:
        """The progress of so many answers, asked after all before."""
        on_answers, before = self._on_answers, self._done
        self._done += answers
        if on_answers is None:
            return None

        def progress(done: int, total: int) -> None:
            on_answers(self._generation, self._steps, round(before + answers * done / total), round(self._most))

        return progress


class _Asked:
    """The answers of one generation's candidates so far, at one fidelity."""

    def __init__(
        self,
        answer: AnswerAll,
        recipes: Sequence[Recipe],
        rounds: Sequence[tuple[int, ...]],
        told: _Told,
        *,
        cheap: bool,
    ) -> None:
        self._answer, self._recipes, self._rounds, self._told, self._cheap = answer, recipes, rounds, told, cheap
        self._parts: list[list[Evaluation]] = [[] for _ in recipes]
        self.errors: dict[int, str] = {}
        self.scores: Array = np.full((len(recipes), len(rounds)), np.nan)
        self.beside: list[Evaluation | str] = []  # evaluations of the questions asked together with the first block
        self.answers = 0

    def asking(self, beside: Sequence[Question]) -> Ask:
        """Return the race's function for asking. `beside` is asked with the first block, so it adds no waiting."""
        more = list(beside)

        def ask(candidates: Sequence[int], order: Sequence[int]) -> Array:
            self.ask([(candidate, order) for candidate in candidates], more)
            more.clear()
            found: Array = self.scores[np.ix_(list(candidates), list(order))]
            return found

        return ask

    def places(self, order: Sequence[int]) -> tuple[int, ...]:
        """The places of the items of these rounds."""
        return tuple(place for number in order for place in self._rounds[number])

    def ask(self, wanted: Sequence[tuple[int, Sequence[int]]], beside: Sequence[Question] = ()) -> None:
        """Ask candidates their rounds, all at once; a failed candidate is put in `errors` and its scores stay NaN."""
        questions = [Question(self._recipes[one], self.places(order), self._cheap) for one, order in wanted]
        count = [sum(len(question.places or ()) for question in part) for part in (questions, beside)]
        cost = count[0] * (CHEAP if self._cheap else 1.0) + count[1]
        answered = self._answer([*questions, *beside], self._told.asking(cost))
        self.beside += answered[len(questions) :]
        self.answers += count[1]
        for (candidate, order), outcome in zip(wanted, answered, strict=False):
            if isinstance(outcome, str):
                self.errors[candidate] = outcome
                continue
            self._parts[candidate].append(outcome)
            self.scores[candidate, list(order)] = _means(outcome.scores, [self._rounds[number] for number in order])
            self.answers += len(outcome.scores)

    def mean(self, candidate: int) -> float:
        """Return the mean over the items (or pictures) that a candidate saw."""
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
        return _seen(whole, self.places(order), score)


def _rounds(pictures: Iterable[int]) -> list[tuple[int, ...]]:
    """The places of the items that are asked together: those with the same number, in the order of the numbers."""
    found: dict[int, list[int]] = {}
    for place, number in enumerate(pictures):
        found.setdefault(number, []).append(place)
    return [tuple(places) for places in found.values()]


def _means(scores: Sequence[float], rounds: Sequence[tuple[int, ...]]) -> list[float]:
    """The mean score of each round, from the scores of all its items one after another."""
    left = iter(scores)
    return [math.fsum(next(left) for _ in places) / len(places) for places in rounds]


def _seen(whole: Evaluation, places: Sequence[int], score: float) -> RacedEvaluation | str:
    judged = failed_if_silent(whole)
    if isinstance(judged, str):
        return judged
    seen = tuple(places[: len(whole.scores)])
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
