"""The Pareto front of two values that are both to be high."""

from evovlm_app.pareto_figure import pareto_front


def test_a_point_that_another_betters_is_not_on_the_front():
    points = [(1.0, 5.0), (2.0, 4.0), (1.5, 3.0), (3.0, 1.0)]
    assert pareto_front(points) == [0, 1, 3]


def test_equal_points_stand_once_and_none_gives_none():
    assert pareto_front([(1.0, 1.0), (1.0, 1.0)]) == [0]
    assert pareto_front([]) == []


def test_of_one_value_alone_the_other_decides():
    assert pareto_front([(1.0, 1.0), (1.0, 2.0), (0.5, 2.0)]) == [1]
