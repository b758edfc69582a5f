"""A hybrid: a genetic algorithm for the bits and CMA-ES for the reals, together in every generation.

Knows only numbers. Real genes that have no effect with a candidate's bits stay at the start in its genome, and are set
to the mean in CMA-ES's update, so that chance does not move them (arXiv:2605.12326 respects that dependence too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings, losses_of
from evovlm.search.searchers.ga import Genetic

# With more reals than this, decomposing a full covariance takes longer than evaluating candidates.
MOST_CORRELATED = 600


class Hybrid:
    """Both at once: candidate k has the k-th bits of one searcher and the k-th reals of the other.

    Example with sixteen bits that should be set and two reals with their best value at 0.7. In the last generation's
    means, most bits are set and the reals have converged.

    >>> from evovlm.search import SearchSettings
    >>> searcher = Hybrid(SearchSettings(genes=18, bits=16))
    >>> for _ in range(25):
    ...     genomes = searcher.ask()
    ...     scores = [sum(bits) - 10 * (x - 0.7) ** 2 - 10 * (y - 0.7) ** 2 for *bits, x, y in genomes]
    ...     searcher.tell(genomes, scores)
    >>> means = [sum(genes) / len(genes) for genes in zip(*genomes)]
    >>> sum(means[:16]) > 12, [round(mean, 2) for mean in means[16:]]
    (True, [0.7, 0.7])
    """

    POPULATION = Genetic.POPULATION  # candidates per generation, if the recipe does not give it

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self.rounded_from = settings.bits  # see `Searcher`
        self._population = settings.population or self.POPULATION
        self._reals = settings.genes - settings.bits
        center = settings.center
        self._rest = center[settings.bits :]
        bits = tuple(map(float, center[: settings.bits]))
        self._chooser = Genetic(replace(settings, genes=settings.bits, start=bits)) if settings.bits else None
        self._tuner = self._make_tuner() if self._reals else None
        self._asked: list[np.ndarray] = []

    def ask(self) -> list[Genome]:
        """The next generation."""
        none: Genome = ()
        chosen = self._chooser.ask() if self._chooser is not None else [none] * self._population
        if self._tuner is None:
            return chosen
        # CMA-ES needs whole generations; the genetic algorithm may run out of new bits and return fewer.
        tuned = [self._tuner.ask() for _ in range(self._population)]
        chosen = [chosen[index % len(chosen)] for index in range(self._population)]
        self._asked, genomes = [], []
        for bits, point in zip(chosen, tuned, strict=True):
            matters = self._matters(bits)
            self._asked.append(np.where(matters, point, self._tuner.mean))
            reals = np.where(matters, point, 0.0)[: self._reals]
            idle = ~matters[: self._reals]
            reals[idle] = self._rest[idle]
            genomes.append(bits + tuple(map(float, reals)))
        return genomes

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation, higher is better."""
        losses = losses_of(scores)[:, 0]
        if self._tuner is not None:
            points = map(self._point_of, genomes, self._asked)
            self._tuner.tell([(point, float(loss)) for point, loss in zip(points, losses, strict=True)])
        if self._chooser is not None:
            count = self._chooser.asked
            self._chooser.tell([genome[: self._settings.bits] for genome in genomes[:count]], scores[:count])

    def _make_tuner(self) -> Any:
        from cmaes import CMA, SepCMA  # late: it loads scipy, which takes three seconds

        kind = CMA if self._reals <= MOST_CORRELATED else SepCMA
        dimensions = max(2, self._reals)  # cmaes needs at least two, so with one real the second is unused
        start = np.full(dimensions, 0.5)
        start[: self._reals] = self._rest
        return kind(
            mean=start,
            sigma=self._settings.sigma,
            bounds=np.tile([0.0, 1.0], (dimensions, 1)),
            seed=self._settings.seed,
            population_size=self._population,
        )

    def _point_of(self, genome: Genome, asked: np.ndarray) -> np.ndarray:
        """The asked point with the genome's reals, where these have an effect."""
        bits = self._settings.bits
        reals = np.append(genome[bits:], asked[self._reals :])
        return np.where(self._matters(genome[:bits]), reals, asked)

    def _matters(self, bits: Genome) -> np.ndarray:
        matters = np.zeros(max(2, self._reals), dtype=bool)
        if self._settings.active is None:
            matters[:] = True
        else:
            matters[list(self._settings.active([bit > 0.5 for bit in bits]))] = True
        return matters
