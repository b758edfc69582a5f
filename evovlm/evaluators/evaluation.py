"""What a candidate's answers to a set of items are worth. Knows no models, tasks or searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from evovlm.system.statistics import Interval, bootstrap


class Answered(NamedTuple):
    """One item's answer: its score from 0 to 100, whether it is exact, its text."""

    score: float
    exact: bool
    answer: str


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to a set of items, in item order, and what they are worth (0 to 100)."""

    scores: tuple[float, ...]
    exact: tuple[bool, ...]
    answers: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    values: tuple[float, ...] = ()  # where there are several objectives: the score, then the others

    @property
    def score(self) -> float:
        """The mean score."""
        return math.fsum(self.scores) / len(self.scores)

    def interval(self, seed: int = 0) -> Interval:
        """The 95 % interval of the mean score, by a bootstrap over items."""
        return bootstrap(self.scores, seed=seed)

    @property
    def spread(self) -> float:
        """Standard error of the mean score."""
        if len(self.scores) < 2:
            return 0.0
        return float(np.std(self.scores, ddof=1) / math.sqrt(len(self.scores)))

    @property
    def answering(self) -> float:
        """Seconds from the merged weights to the answers' texts. Phases are disjoint: reading, writing, the rest."""
        return math.fsum(self.seconds.get(phase, 0.0) for phase in ("prefill", "decode", "answer"))

    @property
    def exact_share(self) -> float:
        """The share of exact answers, 0 to 1."""
        return sum(self.exact) / len(self.exact)


def gathered(answered: Sequence[Answered], seconds: Mapping[str, float]) -> Evaluation:
    """The evaluation that answers give, in their order."""
    return Evaluation(
        scores=tuple(one.score for one in answered),
        exact=tuple(one.exact for one in answered),
        answers=tuple(one.answer for one in answered),
        seconds=dict(seconds),
    )
