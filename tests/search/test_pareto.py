from evovlm.search.pareto import front, hypervolume, hypervolumes


def test_the_front_holds_what_nothing_beats_in_everything():
    points = [(1.0, 5.0), (3.0, 3.0), (2.0, 2.0), (5.0, 1.0), (3.0, 3.0), (5.0, 0.0)]
    assert front(points) == [3, 1, 0]


def test_the_hypervolume_is_the_area_above_the_worst_point():
    # Two boxes over (0, 0): 3 x 1 and 1 x 3, sharing 1 x 1.
    assert hypervolume([(3.0, 1.0), (1.0, 3.0)], (0.0, 0.0)) == 5.0
    assert hypervolume([], (0.0, 0.0)) == 0.0


def test_the_hypervolume_never_falls_over_generations():
    grown = hypervolumes([[(0.0, 0.0), (3.0, 1.0)], [(1.0, 0.5)], [(1.0, 3.0)]])
    assert grown == [3.0, 3.0, 5.0]


def test_generations_in_which_everything_failed_have_a_volume_too():
    assert hypervolumes([[], [(1.0, 1.0)]]) == [0.0, 0.0]
    assert hypervolumes([[]]) == [0.0]
