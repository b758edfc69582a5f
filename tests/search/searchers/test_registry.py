"""The registry of searchers: what each row says is what its searcher does, and its first example runs."""

import doctest
import sys
from typing import Any

import numpy as np
import pytest

from evovlm.recipe.search_settings import RouteSpace, Search
from evovlm.search import (
    SEARCHERS,
    SearcherRow,
    SearchSettings,
    check_search,
    find_searcher,
    make_searcher,
    register,
)
from evovlm.search.protocol import Distribution
from evovlm.search.stream import Steady, stream_of
from evovlm.system.errors import RecipeError


@pytest.fixture(params=sorted(SEARCHERS))
def name(request: pytest.FixtureRequest) -> str:
    """Every searcher there is."""
    return str(request.param)


def test_the_example_of_every_searcher_runs(name: str):
    make = SEARCHERS[name].make
    found = doctest.DocTestFinder(recurse=False).find(make, name, globs=vars(sys.modules[make.__module__]).copy())
    assert found, f"{name} has no docstring"
    assert found[0].examples, f"the docstring of {name} has no example that runs"
    said: list[str] = []
    failures, _ = doctest.DocTestRunner(verbose=False).run(found[0], out=said.append)
    assert not failures, "".join(said)


@pytest.mark.parametrize("genes", [2, 5, 20])
def test_a_generation_is_as_large_as_the_row_says(name: str, genes: int):
    row = SEARCHERS[name]
    bits = genes // 2 if row.switch else 0  # what turns from bits to reals begins with bits
    assert len(row.make(SearchSettings(genes, bits=bits)).ask()) == min(row.population(genes), 2**bits if bits else 99)


def test_what_follows_several_objectives_takes_two_and_the_others_refuse_them(name: str):
    settings = SearchSettings(genes=3, objectives=2)
    if not SEARCHERS[name].several:
        with pytest.raises(RecipeError, match="supports one score, not 2; use `nsga2` or `random`"):
            make_searcher(name, settings)
        return
    searcher = make_searcher(name, settings)
    for _ in range(3):
        genomes = searcher.ask()
        searcher.tell(genomes, [(genome[0], -genome[0]) for genome in genomes])


def test_what_searches_bits_asks_for_zeros_and_ones(name: str):
    searcher = make_searcher(name, SearchSettings(genes=6, bits=4, switch=30))
    values = set()
    for _ in range(3):
        genomes = searcher.ask()
        values |= {value for genome in genomes for value in genome[:4]}
        searcher.tell(genomes, [sum(genome) for genome in genomes])
    assert (values <= {0.0, 1.0}) == SEARCHERS[name].bits


@pytest.mark.parametrize("name", sorted(name for name, row in SEARCHERS.items() if row.races))
def test_what_races_has_a_center_that_moves_to_where_scores_are_high(name: str):
    searcher = make_searcher(name, SearchSettings(genes=4))
    for _ in range(40):
        genomes = searcher.ask()
        searcher.tell(genomes, [-float(np.sum((np.array(genome) - 0.8) ** 2)) for genome in genomes])
    assert np.allclose(np.mean(searcher.ask(), axis=0), 0.8, atol=0.01)


def test_only_cma_es_draws_single_points(name: str):
    searcher = make_searcher(name, SearchSettings(genes=4))
    assert isinstance(searcher, Distribution) == (name == "cmaes") == isinstance(stream_of(searcher), Steady)


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="searcher 'cmaes' exists already"):
        register("cmaes", SearcherRow(SEARCHERS["random"].make, lambda genes: 4))


def test_an_unknown_searcher_is_told_its_choices():
    with pytest.raises(RecipeError, match=r"unknown searcher 'cma'; choose from .*'cmaes'"):
        find_searcher("cma")
    assert [misfit.fatal for misfit in check_search(Search(algorithm="cma"))] == [True]


def test_a_section_that_suits_its_searcher_has_no_misfits(name: str):
    row = SEARCHERS[name]
    switch, objectives = 10 if row.switch else None, ("layers",) if row.several else ()
    route = RouteSpace() if row.bits else None
    assert not list(check_search(Search(algorithm=name, switch=switch, objectives=objectives, route=route)))


def test_what_a_searcher_cannot_follow_or_does_not_use_is_told():
    found = list(check_search(Search(algorithm="cmaes", objectives=("layers",), switch=3, route=RouteSpace())))
    assert [(misfit.fatal, misfit.key) for misfit in found] == [
        (True, "algorithm"),
        (False, "switch"),
        (False, "algorithm"),
    ]
    assert "use `nsga2` or `random`" in found[0].text
    assert "['two_stage'] uses it" in found[1].text


@pytest.mark.parametrize(
    "given",
    [
        {"algorithm": "nsga2"},
        {"algorithm": "random"},
        {"algorithm": "cmaes_margin"},
        {"algorithm": "nsga2", "objectives": ("layers",)},
        {"route": RouteSpace()},
    ],
)
def test_a_race_that_a_search_would_refuse_is_a_misfit(given: dict[str, Any]):
    found = [misfit for misfit in check_search(Search(race=True, **given)) if misfit.key == "race"]
    assert [misfit.fatal for misfit in found] == [True]
    assert "needs `algorithm: cmaes`, one score and no route" in found[0].text


def test_a_race_that_can_be_run_is_none():
    assert not list(check_search(Search(race=True)))
