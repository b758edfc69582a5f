"""A candidate's evaluation: its answers to a set of items and their scores. Knows no models, tasks or searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from evovlm.system.errors import CandidateFault, fault_text
from evovlm.system.statistics import Interval, bootstrap

SILENT = "every answer is empty"


class Answered(NamedTuple):
    """One item's answer: its score (0 to 100), whether it is exact, and its text."""

    score: float
    exact: bool
    answer: str


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to a set of items and their scores (0 to 100), in item order; `seconds`: by phase."""

    scores: tuple[float, ...]
    exact: tuple[bool, ...]
    answers: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    values: tuple[float, ...] = ()  # with several objectives: the score, then the others

    @property
    def score(self) -> float:
        """The mean score, 0 to 100."""
        return math.fsum(self.scores) / len(self.scores)

    def interval(self, seed: int = 0, pictures: Sequence[int] = ()) -> Interval:
        """Return the 95 % confidence interval of the mean score, by a bootstrap over items or their pictures.

        pictures: the number of each item's picture; empty: each item has its own.
        """
        return bootstrap(self.scores, seed=seed, clusters=pictures)

    @property
    def answering(self) -> float:
        """Seconds from merged weights to answer texts: the sum of the phases prefill, decode and the rest."""
        return math.fsum(self.seconds.get(phase, 0.0) for phase in ("prefill", "decode", "answer"))

    @property
    def exact_share(self) -> float:
        """Share of exact answers, 0 to 1."""
        return sum(self.exact) / len(self.exact)


def refuse_silent(found: Evaluation) -> Evaluation:
    """The evaluation, for a search. Raises CandidateFault if every answer is empty: such a model is broken."""
    if not any(found.answers):
        raise CandidateFault(SILENT)
    return found


def failed_if_silent(found: Evaluation) -> Evaluation | str:
    """The evaluation, or the text of its failure if every answer is empty."""
    try:
        return refuse_silent(found)
    except CandidateFault as fault:
        return fault_text(fault)


def gathered(answered: Sequence[Answered], seconds: Mapping[str, float]) -> Evaluation:
    """Combine answers into an evaluation, keeping their order. `seconds`: by phase."""
    return Evaluation(
        scores=tuple(one.score for one in answered),
        exact=tuple(one.exact for one in answered),
        answers=tuple(one.answer for one in answered),
        seconds=dict(seconds),
    )
