"""CMA-ES with margin, for bits and reals together, using the `cmaes` package.

Knows only numbers. Source: Hamano et al., "CMA-ES with Margin" (arXiv:2205.13482): the probability of a bit's rarer
value never falls below a margin, so that no bit freezes while the reals still move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings, losses_of
from evovlm.search.searchers.cmaes import default_population


class MarginCMAES:
    """CMA-ES with margin. A failed candidate ranks below all others of its generation.

    Example with two bits and two reals: best are both bits set and both reals at 0.7.

    >>> from evovlm.search import SearchSettings
    >>> searcher = MarginCMAES(SearchSettings(genes=4, bits=2))
    >>> for _ in range(60):
    ...     genomes = searcher.ask()
    ...     scores = [a + b - (x - 0.7) ** 2 - (y - 0.7) ** 2 for a, b, x, y in genomes]
    ...     searcher.tell(genomes, scores)
    >>> [round(gene, 1) for gene in genomes[scores.index(max(scores))]]
    [1.0, 1.0, 0.7, 0.7]
    """

    rounded_from = 0  # see `Searcher`; the bits are a rounded normal variable

    def __init__(self, settings: SearchSettings) -> None:
        self._genes = settings.genes
        dimensions = max(2, settings.genes)  # cmaes needs at least two, so with one gene the second is unused
        start = np.full(dimensions, 0.5)
        start[: settings.genes] = settings.center
        from cmaes import CMAwM  # late: it loads scipy, which takes three seconds

        self._strategy = CMAwM(
            mean=start,
            sigma=settings.sigma,
            bounds=np.tile([0.0, 1.0], (dimensions, 1)),
            steps=np.array([1.0] * settings.bits + [0.0] * (dimensions - settings.bits)),
            seed=settings.seed,
            population_size=settings.population or default_population(dimensions),
        )
        self._asked: list[np.ndarray] = []
        self._genomes: list[Genome] = []

    def ask(self) -> list[Genome]:
        """The next generation; bits are 0 or 1."""
        pairs = [self._strategy.ask() for _ in range(self._strategy.population_size)]
        self._asked = [told for _, told in pairs]
        self._genomes = [tuple(float(value) for value in point[: self._genes]) for point, _ in pairs]
        return list(self._genomes)

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation, higher is better."""
        assert len(genomes) == len(self._asked) == len(scores)
        losses = losses_of(scores)[:, 0]
        for point, asked, genome in zip(self._asked, self._genomes, genomes, strict=True):
            for place, (was, given) in enumerate(zip(asked, genome, strict=True)):
                if was != given:  # a bit's point lies anywhere on its own side
                    point[place] = given
        self._strategy.tell([(point, float(loss)) for point, loss in zip(self._asked, losses, strict=True)])
