"""Scores as losses: what a searcher that minimises is told."""

from evovlm.search.protocol import losses_of


def test_a_failed_candidate_is_worse_than_the_worst_and_not_tied_with_it():
    losses = losses_of([3.0, None, 1.0, float("nan")])[:, 0]
    assert losses[0] < losses[2] < losses[1]
    assert losses[1] == losses[3]


def test_it_is_worse_in_every_objective():
    losses = losses_of([(3.0, -5.0), None, (1.0, 7.0)], objectives=2)
    assert (losses[1] > losses[[0, 2]].max(axis=0)).all()
