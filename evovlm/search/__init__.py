"""The registry of searchers: they propose points in the unit cube and learn from scores.

Searchers know no models and no files. To add one, write its class and a row here, or decorate the class with `searcher`
in your own module (docs/extending.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from evovlm.recipe.search_settings import Search
from evovlm.search.protocol import Genome, Score, Searcher, SearchSettings
from evovlm.search.searchers.cmaes import CMAES, default_population
from evovlm.search.searchers.cmaes_margin import MarginCMAES
from evovlm.search.searchers.ga import Genetic
from evovlm.search.searchers.hybrid import Hybrid
from evovlm.search.searchers.nsga2 import NonDominatedSorting
from evovlm.search.searchers.random_search import UniformRandom
from evovlm.search.searchers.two_stage import TwoStage
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged

__all__ = [
    "SEARCHERS",
    "Genome",
    "Misfit",
    "Score",
    "SearchSettings",
    "Searcher",
    "SearcherRow",
    "check_search",
    "find_searcher",
    "make_searcher",
    "register",
    "searcher",
]

# CMA-ES keeps several matrices of genes x genes in double precision: 2 GB each at this size.
MOST_GENES = 16_384

Make = Callable[[SearchSettings], Searcher]
AnyMake = TypeVar("AnyMake", bound=Make)


@dataclass(frozen=True)
class SearcherRow:
    """One searcher: how to make it, and what it supports.

    population: the default number of candidates per generation, given the number of genes. several: supports several
    objectives. bits: searches yes-or-no genes as 0 and 1 (otherwise as reals with threshold 0.5). races: learns from
    ranks and its center is the mean of a generation, so that generations can be raced. switch: changes from bits to
    reals after `search.switch` trials.
    """

    make: Make
    population: Callable[[int], int]
    several: bool = False
    bits: bool = True
    races: bool = False
    switch: bool = False


def _always(population: int) -> Callable[[int], int]:
    return lambda genes: population


SEARCHERS: dict[str, SearcherRow] = {
    "cmaes": SearcherRow(CMAES, default_population, bits=False, races=True),
    "cmaes_margin": SearcherRow(MarginCMAES, default_population),
    "ga": SearcherRow(Genetic, _always(Genetic.POPULATION)),
    "hybrid": SearcherRow(Hybrid, _always(Hybrid.POPULATION)),
    "nsga2": SearcherRow(NonDominatedSorting, _always(NonDominatedSorting.POPULATION), several=True),
    "random": SearcherRow(UniformRandom, _always(UniformRandom.POPULATION), several=True),
    # The population of the first stage; without bits, CMA-ES uses its own.
    "two_stage": SearcherRow(TwoStage, _always(Genetic.POPULATION), switch=True),
}


def register(name: str, row: SearcherRow) -> None:
    """Add a searcher, which recipes can then name. Raises ValueError if the name is taken."""
    if name in SEARCHERS:
        raise ValueError(f"searcher {name!r} exists already; choose a name other than {sorted(SEARCHERS)}")
    SEARCHERS[name] = row


def searcher(
    name: str, *, population: int, several: bool = False, bits: bool = False, races: bool = False
) -> Callable[[AnyMake], AnyMake]:
    """Register the decorated class (or function), which makes a `Searcher` from `SearchSettings`, under a name.

    For the other arguments see `SearcherRow`. Raises ValueError if the name is taken, or the population is no number of
    candidates.
    """
    if not isinstance(population, int) or population < 1:
        raise ValueError(f"searcher {name!r}: population={population!r} has to be a number of candidates, at least 1")

    def add(make: AnyMake) -> AnyMake:
        register(name, SearcherRow(make, _always(population), several, bits, races))
        return make

    return add


def find_searcher(name: str) -> SearcherRow:
    """The row of a searcher. Raises RecipeError, which lists the choices, if there is none."""
    if name not in SEARCHERS:
        raise RecipeError(f"search.algorithm: unknown searcher {abridged(name)!r}; choose from {sorted(SEARCHERS)}")
    return SEARCHERS[name]


def make_searcher(name: str, settings: SearchSettings) -> Searcher:
    """Make the searcher of that name.

    Raises RecipeError if there is none, it does not support the objectives, or there are more than MOST_GENES genes.
    """
    row = find_searcher(name)
    if settings.genes > MOST_GENES:
        raise RecipeError(f"search: {settings.genes:,} genes; give at most {MOST_GENES:,}, by fewer groups or sources")
    if settings.objectives > 1 and not row.several:
        raise RecipeError(f"search.algorithm: {_one_score(name, settings.objectives)}")
    return row.make(settings)


# What a search refuses, or says, of its lower fidelity.
ONE_SCORE = "works with one score only; leave out `objectives` or `fidelity`"
ROUTED = "routes are answered by transformers' own layers, which have no 8-bit products; remove it"
EMULATED = "on a CPU 8-bit products are emulated, which saves no time; they are for a GPU"


class Misfit(NamedTuple):
    """A setting of a recipe's search that its searcher does not support: the key in the section, and why."""

    fatal: bool  # True: the search would be refused; False: the search runs, but not as the key suggests
    key: str
    text: str


def check_search(search: Search) -> Iterator[Misfit]:
    """Yield everything in a recipe's search section that its searcher does not support."""
    name = search.algorithm
    if name not in SEARCHERS:
        yield Misfit(True, "algorithm", f"unknown searcher {abridged(name)!r}; choose from {sorted(SEARCHERS)}")
        return
    row = SEARCHERS[name]
    if search.objectives and not row.several:
        yield Misfit(True, "algorithm", _one_score(name, 1 + len(search.objectives)))
    if search.fidelity is not None and search.fidelity.eight_bit:
        yield Misfit(False, "fidelity.eight_bit", EMULATED)
        if search.route is not None:
            yield Misfit(True, "fidelity.eight_bit", ROUTED)
    if search.fidelity is not None and search.objectives:
        yield Misfit(True, "fidelity", ONE_SCORE)
    if search.race and (why := why_no_race(search)) is not None:
        yield Misfit(True, "race", f"{why}; set it to false, or change the rest of the section")
    if search.switch is not None and not row.switch:
        choices = sorted(other for other, found in SEARCHERS.items() if found.switch)
        yield Misfit(False, "switch", f"{name} has no stages and ignores it; {choices} uses it")
    if search.route is not None and not row.bits:
        choices = sorted(other for other, found in SEARCHERS.items() if found.bits)
        yield Misfit(False, "algorithm", f"{name} treats yes-or-no genes as reals with threshold 0.5; {choices} do not")


def why_no_race(search: Search) -> str | None:
    """What a race needs that a recipe's search does not have, in words; None if it can be raced."""
    if find_searcher(search.algorithm).races and not search.objectives and search.route is None:
        return None
    choices = " or ".join(f"`algorithm: {name}`" for name, row in sorted(SEARCHERS.items()) if row.races)
    return f"needs {choices}, one score and no route"


def _one_score(name: str, objectives: int) -> str:
    choices = " or ".join(f"`{other}`" for other, row in sorted(SEARCHERS.items()) if row.several)
    return f"{name} supports one score, not {objectives}; use {choices}"
