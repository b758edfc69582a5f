"""Searchers on genomes of bits and reals: one hidden pattern of bits, and a peak for the reals that its bits use."""

from collections.abc import Sequence

import numpy as np
import pytest

from evovlm.search import SEARCHERS, Genome, SearchSettings, make_searcher
from evovlm.search.pareto import front
from evovlm.system.errors import RecipeError

BITS, REALS = 12, 6
PATTERN = np.array([1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0], dtype=bool)
PEAK = np.array([0.2, 0.8, 0.35, 0.6, 0.7, 0.3])


def active(bits: Sequence[bool]) -> list[int]:
    """Real gene k means something where bit 2 k is set."""
    return [index for index in range(REALS) if bits[2 * index]]


def settings(seed: int, **changes: object) -> SearchSettings:
    fields = {
        "genes": BITS + REALS,
        "population": 16,
        "start": (0.3,) * BITS + (0.5,) * REALS,
        "sigma": 1 / 6,
        "seed": seed,
        "bits": BITS,
        "switch": 200,
        "active": active,
    }
    return SearchSettings(**(fields | changes))  # type: ignore[arg-type]


def score(genome: Genome) -> float:
    bits = np.array(genome[:BITS]) > 0.5
    used = active(bits.tolist())
    reals = np.array(genome[BITS:])
    return float((bits == PATTERN).sum() - 4 * ((reals - PEAK)[used] ** 2).sum())


def best(name: str, seed: int, trials: int = 480) -> float:
    searcher = make_searcher(name, settings(seed))
    found = -np.inf
    while trials > 0:
        genomes = searcher.ask()
        scores = [score(genome) for genome in genomes]
        searcher.tell(genomes, scores)
        found, trials = max(found, *scores), trials - len(genomes)
    return float(found)


@pytest.mark.parametrize("name", sorted(set(SEARCHERS) - {"random"}))
def test_every_searcher_beats_random_search_on_bits_and_reals(name: str):
    seeds = range(5)
    assert np.mean([best(name, seed) for seed in seeds]) > np.mean([best("random", seed) for seed in seeds]) + 0.3


@pytest.mark.parametrize("name", sorted(name for name, row in SEARCHERS.items() if row.bits))
def test_bits_come_as_zero_and_one(name: str):
    searcher = make_searcher(name, settings(0))
    for _ in range(3):
        genomes = searcher.ask()
        assert {value for genome in genomes for value in genome[:BITS]} <= {0.0, 1.0}
        searcher.tell(genomes, [score(genome) for genome in genomes])


@pytest.mark.parametrize("name", sorted(SEARCHERS))
def test_the_first_generation_lies_around_the_start(name: str):
    near = settings(3, start=(0.95,) * 6 + (0.05,) * 6 + (0.5,) * REALS)
    genomes = np.array(make_searcher(name, near).ask())
    assert (genomes[:, :6] > 0.5).mean() > 0.9
    assert (genomes[:, 6:BITS] > 0.5).mean() < 0.1


def test_the_hybrid_leaves_reals_that_mean_nothing_at_the_start():
    searcher = make_searcher("hybrid", settings(1))
    for _ in range(4):
        genomes = searcher.ask()
        for genome in genomes:
            idle = set(range(REALS)) - set(active([bit > 0.5 for bit in genome[:BITS]]))
            assert all(genome[BITS + index] == 0.5 for index in idle)
        searcher.tell(genomes, [score(genome) for genome in genomes])


def test_two_stages_search_bits_first_and_then_the_reals_that_they_use():
    searcher = make_searcher("two_stage", settings(1))
    told: list[tuple[float, Genome]] = []
    for _ in range(200 // 16 + 1):
        genomes = searcher.ask()
        assert all(genome[BITS:] == (0.5,) * REALS for genome in genomes)
        searcher.tell(genomes, [score(genome) for genome in genomes])
        told += [(score(genome), genome) for genome in genomes]
    chosen = max(told)[1][:BITS]
    later = searcher.ask()
    assert {genome[:BITS] for genome in later} == {chosen}
    used = active([bit > 0.5 for bit in chosen])
    assert {index for genome in later for index in range(REALS) if genome[BITS + index] != 0.5} == set(used)


def test_nsga2_finds_a_front_between_two_scores():
    searcher = make_searcher("nsga2", settings(0, objectives=2))
    points = []
    for _ in range(30):
        genomes = searcher.ask()
        scores = [(score(genome), -float(sum(genome[:BITS]))) for genome in genomes]
        searcher.tell(genomes, scores)
        points += scores
    best_ones = [points[index] for index in front(points)]
    assert len(best_ones) >= 5
    assert best_ones[0][0] > 10
    assert best_ones[-1][1] == 0  # no bit at all


def test_several_scores_need_a_searcher_that_knows_them():
    with pytest.raises(RecipeError, match="cmaes supports one score, not 2; use `nsga2`"):
        make_searcher("cmaes", settings(0, objectives=2))


def test_a_searcher_goes_on_when_all_genomes_of_few_bits_are_tried():
    few = SearchSettings(genes=2, population=8, start=0.5, sigma=1 / 6, seed=0, bits=2)
    for name in ("ga", "nsga2", "hybrid", "two_stage"):
        searcher = make_searcher(name, few)
        for _ in range(5):
            genomes = searcher.ask()
            assert genomes
            searcher.tell(genomes, [sum(genome) for genome in genomes])


@pytest.mark.parametrize("name", sorted(SEARCHERS))
def test_every_searcher_is_replayed_bit_for_bit_from_what_it_was_told(name: str):
    first = make_searcher(name, settings(7, switch=40))
    log = []
    for _ in range(7):
        genomes = first.ask()
        scores = [None if index % 5 == 4 else score(genome) for index, genome in enumerate(genomes)]
        first.tell(genomes, scores)
        log.append((genomes, scores))
    again = make_searcher(name, settings(7, switch=40))
    for genomes, scores in log:
        assert again.ask() == genomes
        again.tell(genomes, scores)


def test_reals_that_mean_nothing_are_not_moved_by_luck():
    """Twelve generations of scores that say nothing about a real gene leave the search for it where it began."""
    asleep = True
    alone = settings(5, bits=1, genes=2, start=(0.9, 0.5), population=64, active=lambda _: [] if asleep else [0])
    searcher = make_searcher("hybrid", alone)
    luck = np.random.default_rng(0)
    for _ in range(12):
        genomes = searcher.ask()
        searcher.tell(genomes, list(map(float, luck.random(len(genomes)))))
    asleep = False
    awake = np.array(searcher.ask())[:, 1]
    assert abs(awake.mean() - 0.5) < 0.06
