"""CMA-ES on the unit cube, using the `cma` package with its own random generator.

Knows only numbers. Source: Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772); the
paper's settings are start 0.5, sigma 1/6, population 4 + floor(3 ln n) (arXiv:2403.13187).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings, losses_of


def default_population(genes: int) -> int:
    """Hansen's population size, 4 + floor(3 ln n)."""
    return 4 + math.floor(3 * math.log(genes))


class CMAES:
    """CMA-ES. A failed candidate ranks below all others of its generation.

    Example, a sphere function with its peak at 0.7:

    >>> from evovlm.search import SearchSettings
    >>> searcher = CMAES(SearchSettings(genes=3))
    >>> for _ in range(40):
    ...     genomes = searcher.ask()
    ...     searcher.tell(genomes, [-sum((gene - 0.7) ** 2 for gene in genome) for genome in genomes])
    >>> [round(gene, 2) for gene in searcher.ask()[0]]
    [0.7, 0.7, 0.7]
    """

    rounded_from = 0  # see `Searcher`

    def __init__(self, settings: SearchSettings) -> None:
        # cma draws from NumPy's global state unless given `randn`; a NaN seed keeps it from seeding that state.
        generator = np.random.default_rng(settings.seed)
        # cma needs at least two dimensions, so with one gene the second dimension is unused.
        self._genes = settings.genes
        self._dimensions = dimensions = max(2, settings.genes)
        options = {
            "seed": np.nan,
            "randn": lambda *shape: generator.standard_normal(shape),
            "bounds": [0.0, 1.0],
            "popsize": settings.population or default_population(dimensions),
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            # A study ends after its number of trials, never by cma's convergence criteria.
            "maxiter": math.inf,
            "maxfevals": math.inf,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # among others, cma's that it cannot plot
            # Imported late: it loads scipy and matplotlib, five seconds that commands without a search should not pay.
            import cma

            start = [*settings.center.tolist(), 0.5][:dimensions]
            self._strategy = cma.CMAEvolutionStrategy(start, settings.sigma, options)
        self._asked: list[np.ndarray] = []

    @property
    def population(self) -> int:
        """Results per generation."""
        size: int = self._strategy.popsize
        return size

    def ask(self) -> list[Genome]:
        """The next generation, mapped into the unit cube by cma's smooth bound transformation."""
        self._asked = self.draw(self.population)
        return [self.genome_of(point) for point in self._asked]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation, higher is better; None and non-finite scores count as the worst."""
        assert len(genomes) == len(self._asked) == len(scores)
        points = [
            point if self.genome_of(point) == genome else self.point_of(genome)
            for point, genome in zip(self._asked, genomes, strict=True)
        ]
        self.learn(points, scores)

    def draw(self, count: int) -> list[np.ndarray]:
        """`count` points [dimensions] from the current distribution."""
        return list(self._strategy.ask(count))

    def genome_of(self, point: np.ndarray) -> Genome:
        """The genome for a drawn point."""
        return tuple(float(value) for value in point[: self._genes])

    def point_of(self, genome: Genome) -> np.ndarray:
        """A point with that genome, to learn from in place of a drawn one."""
        return np.array([*genome, 0.5][: self._dimensions])

    def learn(self, points: Sequence[np.ndarray], scores: Sequence[Score]) -> None:
        """Make one update from drawn points, which may come from earlier distributions."""
        self._strategy.tell(list(points), losses_of(scores)[:, 0].tolist())
