import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.system import statistics
from evovlm.system.statistics import bootstrap, paired_difference, standard_error


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
