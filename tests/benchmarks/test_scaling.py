"""The scheduler's simulation, and what is made of races' runs and tables."""

from pathlib import Path

import numpy as np
import pytest

from evovlm_benchmarks.racing.agreement import agreement
from evovlm_benchmarks.racing.summary import answers_to, at_ends, draw, mean_curves
from evovlm_benchmarks.scaling.simulate import simulate

TABLES = Path(__file__).parent.parent.parent / "benchmarks" / "evovlm_benchmarks" / "racing" / "tables"


@pytest.mark.parametrize("workers", [1, 16, 64])
def test_the_scheduler_keeps_workers_busy(tmp_path: Path, workers: int):
    """Candidates of a minute: the driver's own milliseconds are lost in them, idle workers would not be."""
    found = simulate(tmp_path / "s", workers, [50.0, 60.0, 70.0, 90.0], trials=max(60, 14 * workers))
    assert found.efficiency > 0.9
    assert found.speedup == pytest.approx(found.efficiency * workers)
    assert found.untold <= 0.02 * found.trials


def test_answers_to_a_score_by_hand():
    rows = [
        {"arm": "all", "seed": 0, "points": [[0, 10.0], [100, 50.0]]},
        {"arm": "all", "seed": 1, "points": [[0, 30.0], [100, 70.0]]},
        {"arm": "race", "seed": 0, "points": [[0, 20.0], [10, 60.0]]},
        {"arm": "race", "seed": 1, "points": [[0, 20.0], [10, 60.0]]},
        {"arm": "race", "seed": 2, "points": [[0, 0.0], [10, 0.0]]},
    ]
    curves = mean_curves(rows)
    assert curves["all"][1][-1] == pytest.approx(60)
    assert answers_to(curves["race"], 40.0) == pytest.approx(5, abs=0.2)
    assert answers_to(curves["race"], 61.0) is None
    assert draw(curves).count("<polyline") == 2


def test_the_race_is_compared_where_a_subset_ends_by_hand():
    """The subset ends on 50 after 100 answers, the race is there after 20 of 40: a fifth; the other never."""
    rows = [
        {"arm": arm, "seed": seed, "points": [[0, 0.0], [ends, score]]}
        for seed in (0, 1)
        for arm, ends, score in (("1/2", 100, 50.0), ("all", 200, 200.0), ("race", 40, 100.0))
    ]
    half, whole = at_ends(rows, resamples=20)
    assert (half.arm, half.score, half.subset) == ("1/2", 50.0, 100.0)
    assert half.ratio == half.low == half.high == pytest.approx(0.2, abs=0.01)
    assert (whole.arm, whole.race, whole.ratio, whole.high) == ("all", None, None, None)


def test_more_items_rank_better_and_races_rank_on_few():
    with np.load(TABLES / "table-0.npz") as file:
        found = {one.way: one for one in agreement(file["scores"].astype(np.float64))}
    assert found["0.0625 of the items"].found < found["0.25 of the items"].found < found["0.5 of the items"].found
    race = found["race, to 1/16"]
    assert race.answers < found["0.0625 of the items"].answers
    assert race.found > 0.65, "by chance it would be a half"
