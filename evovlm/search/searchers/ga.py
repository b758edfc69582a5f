"""A genetic algorithm with elitism and tournament selection, using pymoo; mainly for the bits of a route.

Knows only numbers.
"""

from __future__ import annotations

from pymoo.algorithms.soo.nonconvex.ga import GA

from evovlm.search.protocol import SearchSettings
from evovlm.search.searchers._pymoo_mixed import PymooSearch, operators


class Genetic(PymooSearch):
    """A genetic algorithm for one score.

    Example, which bits to set: plus one for each of the first four, minus one for each of the others.

    >>> from evovlm.search import SearchSettings
    >>> searcher = Genetic(SearchSettings(genes=8, bits=8))
    >>> best = -8.0
    >>> for _ in range(15):
    ...     genomes = searcher.ask()
    ...     scores = [sum(genome[:4]) - sum(genome[4:]) for genome in genomes]
    ...     searcher.tell(genomes, scores)
    ...     best = max(best, *scores)
    >>> best
    4.0
    """

    POPULATION = 24  # candidates per generation, if the recipe does not give it

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(GA(pop_size=settings.population or self.POPULATION, **operators(settings)), settings)
