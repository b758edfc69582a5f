"""Random search: the baseline that every other searcher must beat.

Knows only numbers. Points are uniform in the unit cube. If there are bits, whole genomes are drawn from the initial
distribution of the other searchers instead, because a route of random layers gives no usable answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings


class UniformRandom:
    """Random search; scores have no effect on it.

    Example, a sphere function with its peak at 0.7: 400 points come near the peak but do not reach it.

    >>> from evovlm.search import SearchSettings
    >>> searcher = UniformRandom(SearchSettings(genes=3))
    >>> best = -1.0
    >>> for _ in range(50):
    ...     genomes = searcher.ask()
    ...     scores = [-sum((gene - 0.7) ** 2 for gene in genome) for genome in genomes]
    ...     searcher.tell(genomes, scores)
    ...     best = max(best, *scores)
    >>> -0.05 < best < -1e-5
    True
    """

    POPULATION = 8  # candidates per generation, if the recipe does not give it

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._generator = np.random.default_rng(settings.seed)
        self._shape = (settings.population or self.POPULATION, settings.genes)

    def ask(self) -> list[Genome]:
        """The next generation of random points."""
        if self._settings.bits:
            points = self._settings.draw(self._generator, self._shape[0])
        else:
            points = self._generator.random(self._shape)
        return [tuple(map(float, point)) for point in points]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Do nothing."""
