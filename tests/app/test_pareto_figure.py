"""The plot of score against exact answers, whose front is joined."""

from evovlm.study.log import Trial
from evovlm_app.pareto_figure import front_figure


def trials(*points: tuple[float | None, float | None]) -> list[Trial]:
    """Trials with these scores and shares of exact answers."""
    rest = {"generation": 0, "genome": (), "digest": "", "spread": None, "seconds": {}, "error": None}
    return [Trial(trial=number, score=score, exact=exact, **rest) for number, (score, exact) in enumerate(points)]


def joined(*points: tuple[float | None, float | None]) -> list[str]:
    """The trials that the line leads through."""
    return list(front_figure(trials(*points)).data[1]["text"])


def test_the_line_joins_from_left_to_right_what_no_other_trial_betters():
    assert joined((3.0, 0.1), (2.0, 0.4), (1.5, 0.3), (1.0, 0.5)) == ["3", "1", "0"]


def test_of_equal_trials_the_first_is_joined_and_without_trials_nothing():
    assert joined((1.0, 0.1), (1.0, 0.1)) == ["0"]
    assert joined() == []
    assert front_figure([]).alt == "Pareto front of score and exact answers over 0 trials: none yet."


def test_of_one_value_alone_the_other_decides():
    assert joined((1.0, 0.1), (1.0, 0.2), (0.5, 0.2)) == ["1"]


def test_a_trial_that_failed_is_no_point():
    assert joined((None, None), (1.0, 0.1)) == ["1"]
