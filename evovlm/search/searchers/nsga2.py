"""NSGA-II for several scores at once (Deb et al., 2002), using pymoo.

Knows only numbers.
"""

from __future__ import annotations

from pymoo.algorithms.moo.nsga2 import NSGA2

from evovlm.search.protocol import SearchSettings
from evovlm.search.searchers._pymoo_mixed import PymooSearch, operators


class NonDominatedSorting(PymooSearch):
    """NSGA-II; scores have one number per objective, all higher-is-better.

    Example with two sphere functions: no point is best for both, and the front is between their peaks, 0.2 and 0.8.

    >>> from evovlm.search import SearchSettings
    >>> searcher = NonDominatedSorting(SearchSettings(genes=1, objectives=2))
    >>> for _ in range(15):
    ...     genomes = searcher.ask()
    ...     searcher.tell(genomes, [(-((gene - 0.2) ** 2), -((gene - 0.8) ** 2)) for (gene,) in genomes])
    >>> last = [gene for (gene,) in searcher.ask()]
    >>> bool(0.1 < min(last) < 0.3 and 0.7 < max(last) < 0.9)
    True
    """

    POPULATION = 24  # candidates per generation, if the recipe does not give it

    def __init__(self, settings: SearchSettings) -> None:
        algorithm = NSGA2(pop_size=settings.population or self.POPULATION, **operators(settings))
        super().__init__(algorithm, settings)
