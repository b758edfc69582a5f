"""Searchers one candidate at a time, for workers that finish out of step. Knows numbers alone.

CMA-ES is steady: whoever is free gets a candidate from the present distribution, and every `population` results, in
the order in which they come, make one update. With W workers a result is told about W / population updates after its
question was asked; `most_stale` bounds it. Every other searcher keeps its generations: while the last results of one
are out, there is nothing to ask for, and what it is told does not depend on the number of workers.

With one worker both ask and tell exactly what the searcher does on its own.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np

from evovlm.search.protocol import Distribution, Genome, Score, Searcher

# Updates that a result may be late beyond what the number of workers makes unavoidable.
GRACE = 2


class Stream(Protocol):
    """A deterministic function of its questions and of the results told, in their order."""

    @property
    def generation(self) -> int:
        """Updates so far."""

    @property
    def population(self) -> int | None:
        """Results an update; None before the first question."""

    def ask(self) -> Genome | None:
        """The next candidate; None where results must come first. Questions are counted from 0."""

    def tell(self, number: int, score: Score) -> None:
        """The score of one question, once."""


def stream_of(searcher: Searcher) -> Stream:
    """The stream that a fresh searcher gives."""
    return Steady(searcher) if isinstance(searcher, Distribution) else Generations(searcher)


def most_stale(workers: int, population: int) -> int:
    """How many updates late a result may be and still be told: what W workers make unavoidable, and GRACE more."""
    return math.ceil(workers / population) + GRACE


class Steady:
    """CMA-ES without generations; results from earlier distributions count as if injected (arXiv:1110.4181)."""

    def __init__(self, searcher: Distribution) -> None:
        self._searcher = searcher
        self._queue: deque[np.ndarray] = deque()
        self._points: dict[int, np.ndarray] = {}
        self._came: list[tuple[np.ndarray, Score]] = []
        self._asked = 0
        self.generation = 0

    @property
    def population(self) -> int:
        """Results an update."""
        return self._searcher.population

    def ask(self) -> Genome:
        """A point of the present distribution."""
        if not self._queue:
            # A whole population at the start of each update, as CMA-ES does alone; single points in excess of it.
            fresh = self._asked == 0
            self._queue.extend(self._searcher.draw(self.population if fresh else 1))
        point = self._queue.popleft()
        self._points[self._asked] = point
        self._asked += 1
        return self._searcher.genome_of(point)

    def tell(self, number: int, score: Score) -> None:
        """A result, however old its distribution."""
        self._came.append((self._points.pop(number), score))
        if len(self._came) == self.population:
            points, scores = zip(*self._came, strict=True)
            self._searcher.learn(points, scores)
            self._came = []
            self.generation += 1
            self._queue = deque(self._searcher.draw(self.population))


class Generations:
    """Any searcher: a generation's candidates one by one, its results told together, in the order asked."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._batch: list[Genome] = []
        self._first = 0  # the number of the batch's first question
        self._given = 0
        self._scores: dict[int, Score] = {}
        self.generation = 0

    @property
    def population(self) -> int | None:
        """Results an update."""
        return len(self._batch) or None

    def ask(self) -> Genome | None:
        """The generation's next candidate, or None until its last results are told."""
        if self._given == len(self._batch):
            if len(self._scores) < len(self._batch):
                return None
            self._next()
        self._given += 1
        return self._batch[self._given - 1]

    def tell(self, number: int, score: Score) -> None:
        """A result of this generation."""
        assert self._first <= number < self._first + self._given, "a question of another generation"
        self._scores[number - self._first] = score

    def _next(self) -> None:
        if self._batch:
            self._searcher.tell(self._batch, [self._scores[place] for place in range(len(self._batch))])
            self.generation += 1
        self._first += len(self._batch)
        self._batch, self._given, self._scores = self._searcher.ask(), 0, {}
