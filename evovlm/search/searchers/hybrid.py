"""A hybrid: a genetic algorithm for the bits and CMA-ES for the reals, side by side in every generation.

Knows numbers alone. Real genes that mean nothing beside a candidate's bits stay at the start in its genome, and at the
mean when CMA-ES is told, so that they are not moved by luck (arXiv:2605.12326 respects that dependence too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cmaes import CMA, SepCMA

from evovlm.search.protocol import Genome, Score, SearchSettings, losses_of
from evovlm.search.searchers.ga import Genetic

# Beyond this many reals a full covariance takes longer to decompose than candidates to evaluate.
MOST_CORRELATED = 600


class Hybrid:
    """Both at once: candidate k has the k-th bits of one searcher and the k-th reals of the other.

    Example, sixteen bits that should be set, and a sphere of two reals whose peak is 0.7. The means of the last
    generation: most bits are set, and the reals have gathered at the peak.

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

    POPULATION = Genetic.POPULATION  # candidates a generation, where the recipe does not say

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
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
        # CMA-ES takes whole generations; the genetic algorithm may run out of new bits in the last places.
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
        """Scores of the last generation, higher is better."""
        losses = losses_of(scores)[:, 0]
        if self._tuner is not None:
            self._tuner.tell([(point, float(loss)) for point, loss in zip(self._asked, losses, strict=True)])
        if self._chooser is not None:
            count = self._chooser.asked
            self._chooser.tell([genome[: self._settings.bits] for genome in genomes[:count]], scores[:count])

    def _make_tuner(self) -> Any:
        kind = CMA if self._reals <= MOST_CORRELATED else SepCMA
        dimensions = max(2, self._reals)  # cmaes asks for two at least, so with one real one is idle
        start = np.full(dimensions, 0.5)
        start[: self._reals] = self._rest
        return kind(
            mean=start,
            sigma=self._settings.sigma,
            bounds=np.tile([0.0, 1.0], (dimensions, 1)),
            seed=self._settings.seed,
            population_size=self._population,
        )

    def _matters(self, bits: Genome) -> np.ndarray:
        matters = np.zeros(max(2, self._reals), dtype=bool)
        if self._settings.active is None:
            matters[:] = True
        else:
            matters[list(self._settings.active([bit > 0.5 for bit in bits]))] = True
        return matters
