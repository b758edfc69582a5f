"""Searchers by name: points of the unit cube out, scores in. They know no models and no files."""

from collections.abc import Callable

from evovlm.search.protocol import Genome, Score, Searcher, SearchSettings
from evovlm.search.searchers.cmaes import CMAES
from evovlm.search.searchers.cmaes_margin import MarginCMAES
from evovlm.search.searchers.ga import Genetic
from evovlm.search.searchers.hybrid import Hybrid
from evovlm.search.searchers.nsga2 import NonDominatedSorting
from evovlm.search.searchers.random_search import UniformRandom
from evovlm.search.searchers.two_stage import TwoStage
from evovlm.system.errors import RecipeError

__all__ = ["SEARCHERS", "SEVERAL", "Genome", "Score", "SearchSettings", "Searcher", "make_searcher"]

SEARCHERS: dict[str, Callable[[SearchSettings], Searcher]] = {
    "cmaes": CMAES,
    "cmaes_margin": MarginCMAES,
    "ga": Genetic,
    "hybrid": Hybrid,
    "nsga2": NonDominatedSorting,
    "random": UniformRandom,
    "two_stage": TwoStage,
}
# Those that know what to do with several scores.
SEVERAL = ("nsga2", "random")


def make_searcher(name: str, settings: SearchSettings) -> Searcher:
    """The searcher of that name. Raises RecipeError with the choices."""
    if name not in SEARCHERS:
        raise RecipeError(f"search.algorithm: unknown searcher {name!r}; choose from {sorted(SEARCHERS)}")
    if settings.objectives > 1 and name not in SEVERAL:
        raise RecipeError(f"search.algorithm: {name} follows one score, not {settings.objectives}; take `nsga2`")
    return SEARCHERS[name](settings)
