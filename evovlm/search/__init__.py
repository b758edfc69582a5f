"""Searchers by name: points of the unit cube out, scores in. They know no models and no files."""

from collections.abc import Callable

from evovlm.errors import RecipeError
from evovlm.search.cmaes import CMAES
from evovlm.search.protocol import Genome, Searcher, SearchSettings
from evovlm.search.uniform import UniformRandom

__all__ = ["SEARCHERS", "Genome", "SearchSettings", "Searcher", "make_searcher"]

SEARCHERS: dict[str, Callable[[SearchSettings], Searcher]] = {"cmaes": CMAES, "random": UniformRandom}


def make_searcher(name: str, settings: SearchSettings) -> Searcher:
    """The searcher of that name. Raises RecipeError with the choices."""
    if name not in SEARCHERS:
        raise RecipeError(f"search.algorithm: unknown searcher {name!r}; choose from {sorted(SEARCHERS)}")
    return SEARCHERS[name](settings)
