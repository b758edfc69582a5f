"""The Pareto front: which points no other point dominates, and the volume that they dominate.

Knows only numbers; every objective is higher-is-better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymoo.indicators.hv import HV

Point = tuple[float, ...]


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the non-dominated points (of equal points only the first), sorted by first objective, best first."""
    values = np.asarray(points, dtype=float)
    found = []
    for index, point in enumerate(values):
        as_good = (values >= point).all(axis=1)
        better = as_good & (values > point).any(axis=1)
        twins = as_good[:index] & ~better[:index]
        if not better.any() and not twins.any():
            found.append(index)
    return sorted(found, key=lambda index: -points[index][0])


def hypervolume(points: Sequence[Point], worst: Point) -> float:
    """The volume dominated by the points, above `worst`, in the product of the objectives' units; 0 without points."""
    if not points:
        return 0.0
    return float(HV(ref_point=-np.asarray(worst, dtype=float))(-np.asarray(points, dtype=float)))


def hypervolumes(generations: Sequence[Sequence[Point]]) -> list[float]:
    """The hypervolume of all points up to each generation, relative to the worst value of each objective overall."""
    everything = [point for generation in generations for point in generation]
    if not everything:
        return [0.0] * len(generations)
    worst = tuple(float(value) for value in np.min(np.asarray(everything, dtype=float), axis=0))
    so_far: list[Point] = []
    volumes = []
    for generation in generations:
        so_far = [*so_far, *generation]
        so_far = [so_far[index] for index in front(so_far)] if so_far else []
        volumes.append(hypervolume(so_far, worst))
    return volumes
