"""Runs searchers one candidate at a time, for asynchronous workers. Knows only numbers.

CMA-ES runs in steady state: a free worker gets a candidate from the current distribution, and every `population`
results, in order of arrival, make one update. With W workers a result arrives about W / population updates after its
candidate was drawn; `most_stale` limits this. Every other searcher keeps its generations: until the last results of a
generation have arrived, it has no further candidates, and its results do not depend on the number of workers.

With one worker, both behave exactly as the searcher does on its own.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np

from evovlm.search.protocol import Distribution, Genome, Score, Searcher

# How many updates a result may be late, beyond what the number of workers makes unavoidable.
GRACE = 2


class Stream(Protocol):
    """Candidates one at a time; a deterministic function of the order of `ask` and `tell` calls and the scores."""

    @property
    def generation(self) -> int:
        """The number of updates so far."""

    @property
    def population(self) -> int | None:
        """Results per update; None before the first candidate."""

    @property
    def searcher(self) -> Searcher:
        """The searcher."""

    def ask(self) -> Genome | None:
        """The next candidate; None if results must arrive first. Candidates are numbered from 0."""

    def replace(self, number: int, genome: Genome) -> None:
        """Take another genome for candidate `number`, before its score: the one that a study logged (`Searcher`)."""

    def tell(self, number: int, score: Score) -> None:
        """Pass the score of candidate `number`; once per candidate."""


def stream_of(searcher: Searcher) -> Stream:
    """Make the stream for a new searcher."""
    return Steady(searcher) if isinstance(searcher, Distribution) else Generations(searcher)


def most_stale(workers: int, population: int) -> int:
    """How many updates late a result may be and still be used: what the workers make unavoidable, plus GRACE."""
    return math.ceil(workers / population) + GRACE


class Steady:
    """CMA-ES without generations; results from earlier distributions count as injected points (arXiv:1110.4181)."""

    def __init__(self, searcher: Distribution) -> None:
        self.searcher = self._searcher = searcher
        self._queue: deque[np.ndarray] = deque()
        self._points: dict[int, np.ndarray] = {}
        self._came: list[tuple[np.ndarray, Score]] = []
        self._asked = 0
        self.generation = 0

    @property
    def population(self) -> int:
        """Results per update."""
        return self._searcher.population

    def ask(self) -> Genome:
        """A candidate from the current distribution."""
        if not self._queue:
            # Draw a whole population after each update, as CMA-ES does on its own, and single points beyond that.
            fresh = self._asked == 0
            self._queue.extend(self._searcher.draw(self.population if fresh else 1))
        point = self._queue.popleft()
        self._points[self._asked] = point
        self._asked += 1
        return self._searcher.genome_of(point)

    def replace(self, number: int, genome: Genome) -> None:
        """Take another genome for a candidate that has no score yet."""
        self._points[number] = self._searcher.point_of(genome)

    def tell(self, number: int, score: Score) -> None:
        """Add a result, however old its distribution is."""
        self._came.append((self._points.pop(number), score))
        if len(self._came) == self.population:
            points, scores = zip(*self._came, strict=True)
            self._searcher.learn(points, scores)
            self._came = []
            self.generation += 1
            self._queue = deque(self._searcher.draw(self.population))


class Generations:
    """Any searcher: candidates of a generation one by one; its results are passed on together, in the order asked."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = self._searcher = searcher
        self._batch: list[Genome] = []
        self._first = 0  # the number of the batch's first candidate
        self._given = 0
        self._scores: dict[int, Score] = {}
        self.generation = 0

    @property
    def population(self) -> int | None:
        """Results per update; None before the first candidate."""
        return len(self._batch) or None

    def ask(self) -> Genome | None:
        """The generation's next candidate, or None while results of the last generation are missing."""
        if self._given == len(self._batch):
            if len(self._scores) < len(self._batch):
                return None
            self._next()
        self._given += 1
        return self._batch[self._given - 1]

    def replace(self, number: int, genome: Genome) -> None:
        """Take another genome for a candidate of this generation."""
        self._batch[number - self._first] = genome

    def tell(self, number: int, score: Score) -> None:
        """Add a result of this generation."""
        assert self._first <= number < self._first + self._given, "a candidate of another generation"
        self._scores[number - self._first] = score

    def _next(self) -> None:
        if self._batch:
            self._searcher.tell(self._batch, [self._scores[place] for place in range(len(self._batch))])
            self.generation += 1
        self._first += len(self._batch)
        self._batch, self._given, self._scores = list(self._searcher.ask()), 0, {}
