"""NSGA-II for several scores at once (Deb et al., 2002), through pymoo.

Knows numbers alone.
"""

from __future__ import annotations

from pymoo.algorithms.moo.nsga2 import NSGA2

from evovlm.search.protocol import SearchSettings
from evovlm.search.searchers.pymoo_mixed import PymooSearch, operators

DEFAULT_POPULATION = 24


class NonDominatedSorting(PymooSearch):
    """Ask and tell; scores hold one number an objective, all higher-is-better."""

    def __init__(self, settings: SearchSettings) -> None:
        algorithm = NSGA2(pop_size=settings.population or DEFAULT_POPULATION, **operators(settings))
        super().__init__(algorithm, settings)
