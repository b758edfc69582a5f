"""Summarise runs of several seeds: mean held-out score against answers generated, and answers needed for a score.

Knows runs as JSON lines; no models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = list[tuple[int, float]]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
COLOURS = {"1/8": "#999999", "1/4": "#3a8fd6", "1/2": "#009e73", "all": "#333333", "race": "#d55e00"}
GRID = 60  # points of a mean curve
WIDTH, HEIGHT, LEFT, TOP, BELOW = 720, 380, 56, 40, 46


def mean_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Map each arm to (answers, mean score), over the seeds that every arm has; points are linearly interpolated."""
    by_arm: dict[str, dict[int, Points]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = [tuple(point) for point in row["points"]]
    seeds = set.intersection(*(set(runs) for runs in by_arm.values()))
    found = {}
    for arm, runs in by_arm.items():
        chosen = [runs[seed] for seed in sorted(seeds)]
        ends = min(points[-1][0] for points in chosen)
        grid = np.linspace(0, ends, GRID)
        lines = [np.interp(grid, [a for a, _ in points], [s for _, s in points]) for points in chosen]
        found[arm] = (grid, np.mean(lines, axis=0))
    return found


def answers_to(curve: Curve, score: float) -> float | None:
    """The number of answers at which a mean curve first reaches a score; None if it never does."""
    reached = np.flatnonzero(curve[1] >= score)
    return float(curve[0][reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class AtEnd:
    """Answers that the race and a fixed subset need to reach that subset's final score.

    `ratio`: race over subset, from the mean curves; `low`, `high`: 95 % interval of the ratio over resampled seeds,
    where an arm that never reaches the score counts as infinite. None instead of an infinite or unknown value.
    """

    arm: str
    score: float
    subset: float | None
    race: float | None
    ratio: float | None
    low: float | None
    high: float | None


def at_ends(rows: Sequence[Mapping[str, Any]], resamples: int = 500) -> list[AtEnd]:
    """For each fixed subset: the answers that it and the race need to reach the subset's final mean score.

    This defines "the same final held-out score" here.
    """
    curves = mean_curves(rows)
    seeds = sorted({row["seed"] for row in rows})
    by_seed = {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        # Each draw gets its own seed number; otherwise duplicate draws would collapse into one.
        chosen = rng.choice(seeds, len(seeds))
        drawn.append(mean_curves([{**row, "seed": n} for n, seed in enumerate(chosen) for row in by_seed[seed]]))
    return [_at_end(arm, curves, drawn) for arm in curves if arm != "race"]


def _at_end(arm: str, curves: Mapping[str, Curve], drawn: Sequence[Mapping[str, Curve]]) -> AtEnd:
    score = float(curves[arm][1][-1])
    subset, race = answers_to(curves[arm], score), answers_to(curves["race"], score)
    ratios = [_ratio(one[arm], one["race"]) for one in drawn]
    low, high = np.percentile(ratios, [2.5, 97.5], method="nearest")
    told = [None if not np.isfinite(value) else round(float(value), 2) for value in (low, high)]
    ratio = None if subset is None or race is None else round(race / subset, 2)
    return AtEnd(arm, round(score, 2), subset, race, ratio, *told)


def _ratio(subset: Curve, race: Curve) -> float:
    """Race over subset in answers needed for the subset's final score; infinite if the race never reaches it."""
    score = float(subset[1][-1])
    needed, own = answers_to(race, score), answers_to(subset, score)
    return float("inf") if needed is None or not own else needed / own


def draw(curves: Mapping[str, Curve]) -> str:
    """An SVG of the mean curves, with answers on a logarithmic scale."""
    most = max(float(grid[-1]) for grid, _ in curves.values())
    low = min(float(scores.min()) for _, scores in curves.values()) - 2
    high = max(float(scores.max()) for _, scores in curves.values()) + 2
    least = 300.0

    def x(answers: float) -> float:
        share = np.log(max(answers, least) / least) / np.log(most / least)
        return float(LEFT + share * (WIDTH - LEFT - 20))

    def y(score: float) -> float:
        return TOP + (high - score) / (high - low) * (HEIGHT - TOP - BELOW)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}">answers generated (logarithmic)</text>',
        f'<text x="8" y="{TOP - 22}">held-out score of the search\'s center</text>',
    ]
    for score in range(int(low // 10 + 1) * 10, int(high) + 1, 10):
        parts.append(f'<text x="{LEFT - 28}" y="{y(score) + 4:.1f}">{score}</text>')
        parts.append(f'<path d="M{LEFT} {y(score):.1f}H{WIDTH - 20}" stroke="#ddd"/>')
    for answers in [least * 2**power for power in range(1 + int(np.log2(most / least)))]:
        parts.append(f'<text x="{x(answers):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{answers:.0f}</text>')
    for place, (arm, (grid, scores)) in enumerate(curves.items()):
        points = " ".join(f"{x(a):.1f},{y(s):.1f}" for a, s in zip(grid, scores, strict=True) if a >= least)
        width = 3 if arm == "race" else 2
        colour = COLOURS.get(arm, "#000")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        parts.append(f'<text x="{WIDTH - 340 + 64 * place}" y="{TOP - 6}" fill="{colour}">{arm}</text>')
    return "\n".join([*parts, "</svg>", ""])
