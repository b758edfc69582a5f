import math

import numpy as np
import pytest

from evovlm.search import SEARCHERS, Genome, SearchSettings, make_searcher
from evovlm.search.searchers.cmaes import default_population
from evovlm.system.errors import RecipeError

PEAK = np.array([0.2, 0.9, 0.5, 0.35, 0.7])


def bowl(genome: Genome) -> float:
    """Highest, 0, at PEAK."""
    return -float(np.sum((np.array(genome) - PEAK) ** 2))


def settings(seed: int = 0, **changes: object) -> SearchSettings:
    fields = {"genes": 5, "population": None, "start": 0.5, "sigma": 1 / 6, "seed": seed} | changes
    return SearchSettings(**fields)  # type: ignore[arg-type]


def run(name: str, generations: int, seed: int = 0) -> list[tuple[Genome, float]]:
    searcher = make_searcher(name, settings(seed))
    found = []
    for _ in range(generations):
        genomes = searcher.ask()
        scores = [bowl(genome) for genome in genomes]
        searcher.tell(genomes, scores)
        found += list(zip(genomes, scores, strict=True))
    return found


@pytest.fixture(params=sorted(SEARCHERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_genome_lies_in_the_unit_cube(name: str):
    assert all(0.0 <= value <= 1.0 for genome, _ in run(name, 20) for value in genome)


def test_the_same_seed_gives_the_same_search(name: str):
    assert run(name, 6, seed=3) == run(name, 6, seed=3)
    assert run(name, 6, seed=3) != run(name, 6, seed=4)


def test_the_global_random_state_is_neither_read_nor_changed(name: str):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    first = run(name, 3)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.random.seed(2)
    assert run(name, 3) == first


def test_failed_candidates_do_not_stop_a_search(name: str):
    searcher = make_searcher(name, settings())
    for _ in range(4):
        genomes = searcher.ask()
        scores: list[float | None] = [None, math.nan, *(bowl(genome) for genome in genomes[2:])]
        searcher.tell(genomes, scores)
    assert len(searcher.ask()) == len(genomes)


def test_cmaes_finds_the_peak_and_beats_random_search():
    cmaes = max(score for _, score in run("cmaes", 60))
    random = max(score for _, score in run("random", 60))
    assert cmaes > -1e-6
    assert random < -1e-4


def test_a_failed_candidate_ranks_last_for_cmaes():
    # Candidates on the far side of 0.5 fail; the mean must move away from them.
    searcher = make_searcher("cmaes", settings(genes=2))
    for _ in range(25):
        genomes = searcher.ask()
        searcher.tell(genomes, [None if genome[0] > 0.5 else 1.0 - genome[0] for genome in genomes])
    assert np.mean([genome[0] for genome in searcher.ask()]) < 0.3


def test_cmaes_works_with_a_single_gene():
    searcher = make_searcher("cmaes", settings(genes=1))
    genomes = searcher.ask()
    assert {len(genome) for genome in genomes} == {1}
    searcher.tell(genomes, [0.0] * len(genomes))


def test_the_population_follows_the_paper():
    assert default_population(20) == 12
    assert len(make_searcher("cmaes", settings(genes=20)).ask()) == 12
    assert len(make_searcher("cmaes", settings(population=30)).ask()) == 30


def test_an_unknown_searcher_is_told_the_choices():
    with pytest.raises(RecipeError, match=r"unknown searcher 'pso'; choose from \['cmaes', 'cmaes_margin', 'ga', "):
        make_searcher("pso", settings())
