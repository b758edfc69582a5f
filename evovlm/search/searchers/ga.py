"""A genetic algorithm with elitism and tournaments, through pymoo; for the bits of a route above all.

Knows numbers alone.
"""

from __future__ import annotations

from pymoo.algorithms.soo.nonconvex.ga import GA

from evovlm.search.protocol import SearchSettings
from evovlm.search.searchers.pymoo_mixed import PymooSearch, operators

DEFAULT_POPULATION = 24


class Genetic(PymooSearch):
    """Ask and tell for one score."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(GA(pop_size=settings.population or DEFAULT_POPULATION, **operators(settings)), settings)
