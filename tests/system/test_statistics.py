import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.system import statistics
from evovlm.system.statistics import (
    bootstrap,
    effective_count,
    holm,
    nested_mean,
    paired_difference,
    share_interval,
    standard_error,
)


def test_the_mean_is_plain_and_inside_its_interval():
    interval = bootstrap([0.0, 50.0, 100.0, 50.0], seed=0)
    assert interval.mean == 50.0
    assert interval.low < 50.0 < interval.high


def test_equal_scores_leave_no_doubt():
    interval = bootstrap([7.0] * 5, seed=1)
    assert (interval.low, interval.mean, interval.high, interval.median) == (7.0, 7.0, 7.0, 7.0)


def test_the_interval_has_the_width_that_theory_gives():
    scores = np.random.default_rng(3).normal(size=2000).tolist()
    interval = bootstrap(scores, seed=0, resamples=4000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(scores) / np.sqrt(2000), rel=0.05)


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    assert bootstrap([1.0, 2.0, 4.0], seed=9) == bootstrap([1.0, 2.0, 4.0], seed=9)
    assert np.random.get_state()[1].tolist() == before
    assert bootstrap(list(range(99)), seed=9) != bootstrap(list(range(99)), seed=10)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch):
    scores = list(range(50))
    whole = bootstrap(scores, seed=4)
    monkeypatch.setattr(statistics, "BLOCK", 120)
    assert bootstrap(scores, seed=4) == whole


def test_a_steady_gain_is_significant_though_the_scores_overlap():
    rng = np.random.default_rng(0)
    b = rng.uniform(0, 100, size=200)
    difference = paired_difference((b + 1).tolist(), b.tolist(), seed=0)
    assert difference.mean == pytest.approx(1.0)
    assert difference.significant
    assert difference.p_value < 0.01


def test_a_model_against_itself_is_not_significant():
    difference = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], seed=0)
    assert difference.mean == 0.0
    assert not difference.significant
    assert difference.p_value == 1.0


SCORES = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=30)


@given(SCORES, st.integers(0, 5))
def test_interval_and_median_lie_among_the_scores_and_in_order(scores: list[float], seed: int):
    found = bootstrap(scores, seed=seed, resamples=50)
    slack = 1e-9
    assert min(scores) - slack <= found.low <= found.median <= found.high <= max(scores) + slack
    assert found.mean == pytest.approx(np.mean(scores))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=30))
def test_a_comparison_turned_round_is_its_mirror(pairs: list[tuple[float, float]]):
    a, b = [one for one, _ in pairs], [other for _, other in pairs]
    there, back = (paired_difference(x, y, seed=3, resamples=99) for x, y in ((a, b), (b, a)))
    assert there.mean == pytest.approx(-back.mean)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p_value == back.p_value


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_cannot_be_averaged_are_refused(scores: list[float]):
    with pytest.raises(ValueError, match="scores"):
        bootstrap(scores, seed=0)


def test_a_pair_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1.0], [1.0, 2.0], seed=0)


def test_items_that_share_a_picture_count_once():
    """Eight equal scores of a picture say no more than one."""
    scores = np.random.default_rng(1).uniform(0, 100, 30)
    repeated = [score for score in scores for _ in range(8)]
    pictures = [number for number in range(30) for _ in range(8)]
    alone, shared = bootstrap(list(scores), seed=3), bootstrap(repeated, seed=3, clusters=pictures)
    assert (shared.low, shared.high) == pytest.approx((alone.low, alone.high))
    naive = bootstrap(repeated, seed=3)
    assert shared.high - shared.low > 2 * (naive.high - naive.low)
    assert standard_error(repeated, pictures) == pytest.approx(standard_error(list(scores)))
    better = [score + 1 for score in repeated]
    assert paired_difference(better, repeated, seed=3, clusters=pictures).mean == pytest.approx(1.0)


def test_clusters_of_one_change_nothing():
    scores = list(np.random.default_rng(2).uniform(0, 100, 12))
    assert bootstrap(scores, seed=0, clusters=range(12)) == bootstrap(scores, seed=0)
    assert standard_error(scores, range(12)) == standard_error(scores)


def test_the_interval_over_pictures_of_different_sizes_has_the_width_that_theory_gives():
    rng = np.random.default_rng(5)
    pictures = [number for number in range(400) for _ in range(int(rng.integers(1, 9)))]
    levels = rng.normal(0, 10, 400)
    scores = [levels[number] + rng.normal(0, 3) for number in pictures]
    found = bootstrap(scores, seed=0, resamples=4000, clusters=pictures)
    assert (found.high - found.low) / 3.92 == pytest.approx(standard_error(scores, pictures), rel=0.06)


def test_one_picture_has_no_standard_error_and_lengths_have_to_agree():
    assert standard_error([1.0, 2.0], [7, 7]) == 0.0
    with pytest.raises(ValueError, match="3 scores need 3 cluster numbers, not 2"):
        bootstrap([1.0, 2.0, 3.0], seed=0, clusters=[0, 0])


def test_wilsons_interval_is_that_of_the_literature_and_holds_near_the_ends():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = share_interval([True] * right + [False] * (count - right))
        assert found == pytest.approx((low, high), abs=5e-5)
    assert share_interval([True] * 20) == pytest.approx((0.8389, 1.0), abs=5e-5)


def test_a_shares_interval_covers_rare_answers_where_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    covered = {"wilson": 0, "bootstrap": 0}
    for _ in range(300):
        flags = [bool(one) for one in rng.random(30) < 0.03]
        low, high = share_interval(flags)
        covered["wilson"] += low <= 0.03 <= high
        plain = bootstrap([float(one) for one in flags], seed=0)
        covered["bootstrap"] += plain.low <= 0.03 <= plain.high
    assert covered["wilson"] > 270
    assert covered["bootstrap"] < 210


def test_a_share_of_items_that_share_clusters_has_a_wider_interval():
    flags = [bool(place // 10 % 2) for place in range(200)]
    pictures = [place // 10 for place in range(200)]
    alone, together = (share_interval(flags, clusters=of) for of in ((), pictures))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    # Answers that do not hang together within a picture are worth as many as there are.
    rng = np.random.default_rng(0)
    mixed = [bool(one) for one in rng.random(2000) < 0.5]
    apart = [share_interval(mixed, clusters=of) for of in ((), [place // 10 for place in range(2000)])]
    assert apart[1] == pytest.approx(apart[0], abs=0.01)
    # Twenty pictures without a right answer are worth twenty answers, not none.
    assert share_interval([False] * 200, clusters=pictures) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_share_without_answers_or_with_a_level_of_no_interval_is_refused(level: float):
    with pytest.raises(ValueError, match="no answers"):
        share_interval([])
    with pytest.raises(ValueError, match="level"):
        share_interval([True], level=level)


def test_holms_correction_is_that_of_the_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_p_values_keep_their_order_and_are_never_smaller(values: list[float]):
    found = holm(values)
    assert all(one >= before for one, before in zip(found, values, strict=True))
    assert all(one <= 1 for one in found)
    assert max(found) <= len(values) * max(values) or max(found) == 1
    ranked = sorted(range(len(values)), key=values.__getitem__)
    assert [found[place] for place in ranked] == sorted(found)


def test_equal_clones_count_once():
    assert effective_count((), 7) == 7
    assert effective_count([0, 0, 0, 0], 4) == 1
    assert effective_count([0, 0, 1, 1], 4) == 2
    assert effective_count([0, 0, 0, 1], 4) == pytest.approx(1.6)


def test_a_nested_mean_is_as_wide_as_the_seeds_differ():
    rng = np.random.default_rng(0)
    alike = [[(5 + rng.normal(size=400)).tolist() for _ in range(2)] for _ in range(3)]
    apart = [[(5 + shift + rng.normal(size=400)).tolist() for _ in range(2)] for shift in (-10, 0, 10)]
    near, far = (nested_mean(runs, seed=0) for runs in (alike, apart))
    assert near.mean == pytest.approx(5, abs=0.1)
    assert near.high - near.low < 0.4
    assert far.mean == pytest.approx(5, abs=0.1)
    assert far.low < -4
    assert far.high > 14
    assert near == nested_mean(alike, seed=0)


def test_one_training_and_one_search_are_a_plain_bootstrap_over_items():
    values = np.random.default_rng(1).normal(size=500).tolist()
    nested, plain = nested_mean([[values]], seed=0), bootstrap(values, seed=0)
    assert nested.mean == plain.mean
    assert (nested.low, nested.high) == pytest.approx((plain.low, plain.high), abs=0.02)


def test_items_that_all_trainings_are_asked_do_not_count_once_for_each():
    """The interval holds a difference of zero about as often as it says; resampled apart, it would in three of four."""
    rng, held = np.random.default_rng(0), 0
    for draw in range(100):
        item = rng.normal(0, 40, 60)  # how much harder an item is for one of two models
        runs = [[(item + rng.normal(0, 20, 60)).tolist()] for _ in range(6)]
        found = nested_mean(runs, seed=draw, resamples=300)
        held += found.low <= 0 <= found.high
    assert held >= 90


@pytest.mark.parametrize("runs", [[], [[]], [[[]]], [[[1.0]], []], [[[1.0]], [[1.0], [1.0]]], [[[1.0]], [[1.0, 2.0]]]])
def test_a_nested_mean_needs_the_same_searches_and_items_everywhere(runs: list[list[list[float]]]):
    with pytest.raises(ValueError, match=r"search|scores"):
        nested_mean(runs, seed=0)
