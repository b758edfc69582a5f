"""Random search: the floor that every other searcher must beat.

Knows numbers alone. Points of the unit cube are uniform; where there are bits, whole genomes come from the distribution
that every other searcher begins with, for a route of random layers answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings


class UniformRandom:
    """Random search; what it is told changes nothing.

    Example, a sphere whose peak is 0.7: 400 points come near it and no nearer.

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

    POPULATION = 8  # candidates a generation, where the recipe does not say

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._generator = np.random.default_rng(settings.seed)
        self._shape = (settings.population or self.POPULATION, settings.genes)

    def ask(self) -> list[Genome]:
        """The next points."""
        if self._settings.bits:
            points = self._settings.draw(self._generator, self._shape[0])
        else:
            points = self._generator.random(self._shape)
        return [tuple(map(float, point)) for point in points]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Nothing is learned."""
