"""Races on numbers alone: who is dropped, who never is, and on how many items."""

from collections.abc import Sequence

import numpy as np
import pytest

from evovlm.search.race import RaceSettings, informativeness, item_order, looks, race, surviving

PLAIN = RaceSettings(first=8, growth=2.0, most=0.5, level=0.05, random=1.0)


def ask_of(table: np.ndarray):
    def ask(candidates: Sequence[int], items: Sequence[int]) -> np.ndarray:
        return table[np.ix_(list(candidates), list(items))]

    return ask


def test_looks_double_up_to_the_share_and_end_on_it():
    assert looks(256, PLAIN) == [8, 16, 32, 64, 128]
    assert looks(100, PLAIN) == [8, 16, 32, 50]
    assert looks(10, RaceSettings(first=8, most=0.1)) == [8, 10]


def test_a_race_among_clear_cut_candidates_ends_early():
    rng = np.random.default_rng(0)
    level = np.array([80.0, 79.0, 20.0, 19.0])
    table = level[:, None] + rng.normal(0, 5, (4, 100))
    found = race(ask_of(table), 4, 2, list(rng.permutation(100)), 100, PLAIN)
    assert found.seen == (8, 8, 8, 8)
    assert sorted(np.argsort(found.scores)[-2:]) == [0, 1]


def test_candidates_that_differ_by_nothing_all_stay():
    table = np.tile(np.random.default_rng(0).normal(50, 20, 100), (6, 1))
    found = race(ask_of(table), 6, 3, list(range(100)), 100, PLAIN)
    assert found.seen == (50,) * 6
    assert len(set(found.scores)) == 1


def test_what_makes_an_item_hard_cancels():
    """Item effects of 50 points would drown a gap of 4 without pairs."""
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 50, 64)
    table = np.array([60.0, 60.0, 56.0])[:, None] + hard + rng.normal(0, 3, (3, 64))
    assert surviving(table, 2, 1000, 0.05) == [0, 1]


@pytest.mark.parametrize("accuracy", [False, True], ids=["ROUGE-L", "accuracy"])
def test_those_that_matter_are_seldom_dropped(accuracy: bool):
    """Of 200 races whose order of merit is known, for real scores and for 0 and 100."""
    rng = np.random.default_rng(2)
    lost = answers = 0
    for _ in range(200):
        level = np.sort(rng.normal(0, 1, 12))[::-1]
        table = level[:, None] + rng.normal(0, 1.5, 200) + rng.normal(0, 1.0, (12, 200))
        table = 100.0 * (table > 0) if accuracy else 50 + 10 * table
        best = set(np.argsort(-table.mean(axis=1), kind="stable")[:6])
        found = race(ask_of(table), 12, 6, list(rng.permutation(200)), 200, PLAIN)
        kept = {one for one in range(12) if found.seen[one] == max(found.seen)}
        lost += len(best - kept)
        answers += found.answers
    assert lost / (200 * 6) < 0.05
    assert answers < 0.8 * 200 * 12 * 100


def test_a_finite_set_seen_whole_leaves_no_doubt():
    table = np.array([[1.0, 2.0, 1.5, 3.0], [0.9, 2.2, 1.4, 2.9], [0.0, 1.0, 2.0, 1.0]])
    assert surviving(table, 1, 4, 1e-9) == [0]
    assert surviving(table, 1, 400, 1e-9) == [0, 1, 2]


def test_a_failed_candidate_leaves_the_race_and_ranks_nowhere():
    table = np.full((4, 40), 50.0)
    table[1] = np.nan
    found = race(ask_of(table), 4, 2, list(range(40)), 40, PLAIN)
    assert found.seen[1] == 8
    assert np.isnan(found.scores[1])
    assert not np.isnan(found.scores[0])


def test_scores_of_those_who_left_early_are_made_comparable():
    """By hand: the one who stayed fell from 80 to 60 on the later items, so the other's 20 counts as 0."""
    table = np.array([[80.0] * 8 + [40.0] * 8, [20.0] * 16])
    settings = RaceSettings(first=8, most=0.4, level=0.05)
    table += np.random.default_rng(0).normal(0, 1e-6, table.shape)
    table = np.vstack([table, table[0]])
    found = race(ask_of(table), 3, 1, list(range(16)), 40, settings)
    assert found.seen == (16, 8, 16)
    assert found.scores[0] == pytest.approx(60, abs=1e-3)
    assert found.scores[1] == pytest.approx(0, abs=1e-3)


def test_items_that_all_answer_alike_tell_least():
    rng = np.random.default_rng(3)
    known = np.full((30, 20), 100.0)
    known[:, :5] = 100.0 * (rng.random((30, 5)) < 0.5)
    tells = informativeness(known)
    assert tells[:5].min() > 2 * tells[5:].max()
    assert tells.sum() == pytest.approx(1)


def test_informative_items_come_often_and_random_ones_still_come():
    rng = np.random.default_rng(4)
    known = np.full((30, 160), 100.0)
    known[:, :20] = 100.0 * (rng.random((30, 20)) < 0.5)
    settings = RaceSettings(most=0.1, random=0.5)
    orders = [item_order(known, settings, np.random.default_rng(seed)) for seed in range(100)]
    share = np.mean([np.mean([item < 20 for item in order]) for order in orders])
    assert 0.2 < share < 0.8
    assert {item for order in orders for item in order} == set(range(160))
    assert all(len(set(order)) == 16 for order in orders)


def test_before_anything_is_known_items_come_at_random():
    known = np.full((1, 50), np.nan)
    assert informativeness(known) == pytest.approx(np.full(50, 1 / 50))
    one, other = (item_order(known, RaceSettings(), np.random.default_rng(seed)) for seed in (0, 1))
    assert one != other
