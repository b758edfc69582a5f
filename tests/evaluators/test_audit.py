"""Whether cheap scores rank well enough, by numbers that are counted by hand."""

import pytest

from evovlm.evaluators._audit import audited


def test_agreement_is_counted_by_pairs():
    """Of six pairs one is in the other order: tau is (5 - 1) / 6; and 4 of the 24 orders have at most one such pair."""
    found = audited([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0], 2)
    assert (found.tau, found.p_value) == (pytest.approx(4 / 6), pytest.approx(4 / 24))
    assert (found.place, found.promoted, found.candidates) == (2, 2, 4)
    assert not found.good, "so good an agreement is chance in one generation of six"


@pytest.mark.parametrize(("candidates", "good"), [(2, False), (3, False), (4, True), (8, True)])
def test_the_same_order_is_believed_from_four_candidates_on(candidates: int, good: bool):
    """Two unrelated orders of three are equal with probability 1/6, of four with 1/24."""
    scores = [float(number) for number in range(candidates)]
    assert audited(scores, scores, 1).good == good


def test_the_best_candidate_has_to_be_among_those_that_would_be_promoted():
    full = [float(number) for number in range(12)]
    cheap = [*full[:11], 8.5]  # the best one is behind 9 and 10
    assert audited(cheap, full, 3).good
    assert not audited(cheap, full, 2).good
    assert "the best one is number 3 by cheap answers (at most 2)" in audited(cheap, full, 2).in_words


def test_of_several_best_candidates_one_is_enough():
    full = [*range(10), 9]
    cheap = [float(score) for score in (*range(10), 0)]
    assert audited(cheap, full, 1).place == 1


def test_an_agreement_by_more_than_chance_may_still_be_too_little():
    """40 candidates in blocks whose order is reversed: all 28 pairs of a block of 8 disagree, 91 of one of 14."""
    full = [float(number) for number in range(40)]
    for size, pairs, good in ((8, 5 * 28, True), (14, 2 * 91 + 66, False)):
        found = audited([float(size * (number // size) - number % size) for number in range(40)], full, 40)
        assert found.tau == pytest.approx((780 - 2 * pairs) / 780)
        assert found.p_value < 0.01
        assert found.good == good


@pytest.mark.parametrize("scores", [[], [3.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
def test_scores_that_tell_nothing_apart_are_not_good(scores: list[float]):
    found = audited(scores, scores, 5)
    assert (found.tau, found.p_value, found.good) == (0.0, 1.0, False)
    assert str(len(scores) or "no candidate") in found.in_words
