"""Random search: uniform points of the unit cube. The floor that every other searcher must beat.

Knows numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evovlm.search.protocol import Genome, SearchSettings


class UniformRandom:
    """Ask and tell; what it is told changes nothing."""

    def __init__(self, settings: SearchSettings) -> None:
        self._generator = np.random.default_rng(settings.seed)
        self._shape = (settings.population or 8, settings.genes)

    def ask(self) -> list[Genome]:
        """The next points, uniform in the unit cube."""
        return [tuple(map(float, point)) for point in self._generator.random(self._shape)]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[float | None]) -> None:
        """Nothing is learned."""
