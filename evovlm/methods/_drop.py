"""Which elements of a task vector are kept, and the factor that compensates for the dropped ones.

Knows task vectors, densities and draws; not weights or what happens to the terms afterwards. Every choice depends
only on the element's index, its draw and quantities of the whole tensor, never on chunks or threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods._fixed_point import exponent, fixed_point, integer_sums, largest_magnitude, largest_of
from evovlm.methods._order_statistics import Statistic, order_statistics, row_ranks
from evovlm.methods.draws import BLOCK, LANES, LEVELS, Draws, threshold
from evovlm.methods.operand import CHUNK, Magnitudes, Mask, Tables, TaskVector, spans
from evovlm.methods.options import Drop, MergeOptions


def keep_mask(vector: TaskVector, drop: Drop | None, options: MergeOptions) -> Mask | None:
    """Which elements are kept, bool [count]; None if all are."""
    operand = vector.operand
    if operand.mask is not None:
        return operand.mask.detach().reshape(-1).numpy().astype(np.bool_, copy=False)
    if drop is None or operand.density >= 1 or vector.count == 0:
        return None
    if operand.density <= 0:
        return np.zeros(vector.count, dtype=np.bool_)
    return DROPS[drop](vector, options)


def rescale_factor(vector: TaskVector, mask: Mask | None, drop: Drop | None, options: MergeOptions) -> float:
    """The factor for the kept elements.

    inverse: 65536 / round(density x 65536). l1: |delta|_1 / |delta x mask|_1 (mergekit since 2025-02), from
    fixed-point sums; where draws decide among equal magnitudes at the edge, the requested number of them is counted,
    not the number drawn. 1 if nothing is dropped, nothing is left, the task vector is not finite (for l1), or each
    element has a factor of its own (`element_factors`).
    """
    operand = vector.operand
    if mask is None or options.rescale in ("none", "per_element"):
        return 1.0
    if options.rescale == "inverse":
        kept = threshold(operand.density)
        return LEVELS / kept if kept else 1.0
    largest = 0.0 if operand.tables is None else _largest(vector)
    if operand.tables is not None and drop == "random" and operand.mask is None and math.isfinite(largest):
        total, kept = _sums_by_draw(vector, operand.tables, exponent(largest))
    else:
        total, kept, s = _sums(vector, mask, largest)
        if drop == "magnitude" and vector.edge is not None and total:
            surplus, value = vector.edge
            kept -= surplus * int(fixed_point(torch.tensor([value]), s))
    return total / kept if kept else 1.0


def _random(vector: TaskVector, options: MergeOptions) -> Mask:
    """DARE (arXiv:2311.03099): keep an element if draw < round(density x 65536)."""
    limit = threshold(vector.operand.density)
    mask = np.empty(vector.count, dtype=np.bool_)
    if limit >= LEVELS:
        mask.fill(True)
        return mask
    for start, stop in spans(vector.count, max(vector.chunk, BLOCK * LANES)):
        np.less(vector.operand.draws.raw(start, stop), np.uint16(limit), out=mask[start:stop])
    return mask


def _magnitude(vector: TaskVector, options: MergeOptions) -> Mask:
    """TIES (arXiv:2306.01708): keep the int(density x n) largest |delta|, at least one."""
    kept = max(1, int(vector.operand.density * vector.count))
    return _window(vector, vector.count - kept, vector.count)


def _breadcrumbs(vector: TaskVector, options: MergeOptions) -> Mask:
    """Model Breadcrumbs (arXiv:2312.06795): drop the largest gamma x n, then keep the int(density x n) largest.

    If that leaves too few elements, fewer of the largest are dropped, as in mergekit.
    """
    kept = int(vector.operand.density * vector.count)
    if kept == 0:
        return np.zeros(vector.count, dtype=np.bool_)
    low = max(0, vector.count - kept - int(options.gamma * vector.count))
    return _window(vector, low, low + kept)


def _della(vector: TaskVector, options: MergeOptions) -> Mask:
    """DELLA (arXiv:2406.11617): the keep-probability p grows with the rank of |delta| in its row: see `della_limits`.

    An element is kept if draw < round(p x 65536). Equal magnitudes are ranked by index. A row is the last dimension.
    """
    limits = della_limits(vector.operand.density, options.epsilon, vector.row)
    mask = np.empty(vector.count, dtype=np.bool_)
    for start, stop, ranks in row_ranks(vector):
        np.less(vector.operand.draws.raw(start, stop), limits[ranks], out=mask[start:stop])
    return mask


def della_limits(density: float, epsilon: float, row: int) -> NDArray[np.uint32]:
    """round(p x 65536) by ascending rank of |delta| in a row of `row` elements.

    p runs evenly from density - epsilon to density + epsilon, with epsilon limited so that p stays within 0 to 1.
    """
    epsilon = min(epsilon, density, 1.0 - density)
    place = np.linspace(-1.0, 1.0, row) if row > 1 else np.zeros(1)
    return np.rint((density + epsilon * place) * LEVELS).astype(np.uint32)


def della_factors(density: float, epsilon: float, row: int) -> NDArray[np.float32]:
    """1 / p of the elements of a row that are kept, by ascending rank, with the p that draws have: float32 [row]."""
    return (LEVELS / np.maximum(della_limits(density, epsilon, row), 1)).astype(np.float32)


def element_factors(vector: TaskVector, options: MergeOptions) -> NDArray[np.float32] | None:
    """For `rescale: per_element`: 1 / p of the elements that DELLA keeps, 0 of the others, float32 [count].

    None if all are kept. A kept element's expected value is then the element itself (MAGPRUNE in arXiv:2406.11617).
    """
    mask, density = keep_mask(vector, "della", options), vector.operand.density
    if mask is None or not 0 < density < 1:
        return None if mask is None else mask.astype(np.float32)
    by_rank = della_factors(density, options.epsilon, vector.row)
    factors = np.empty(vector.count, dtype=np.float32)
    for start, stop, ranks in row_ranks(vector):
        np.multiply(by_rank[ranks], mask[start:stop], out=factors[start:stop])
    return factors


DROPS: dict[Drop, Callable[[TaskVector, MergeOptions], Mask]] = {
    "random": _random,
    "magnitude": _magnitude,
    "breadcrumbs": _breadcrumbs,
    "della": _della,
}


def _window(vector: TaskVector, low: int, high: int) -> Mask:
    """The elements whose ascending rank of |delta| is in low ... high - 1; draws decide among equal magnitudes.

    If m of c equal elements are needed at an edge, each is kept if its draw < round(65536 x m / c).
    """
    bottom, top = order_statistics(vector, [low, high - 1])
    needed = min(bottom.below + bottom.equal, high) - low
    low_limit = threshold(needed / bottom.equal)
    # If both edges have the same magnitude, thin out its elements only once; above the largest nothing is dropped.
    bounded = high < vector.count
    high_limit = LEVELS if bottom.value == top.value else threshold((high - top.below) / top.equal)
    mask = np.empty(vector.count, dtype=np.bool_)
    chosen = 0
    for start, stop, magnitudes in vector.magnitudes():
        values, part = magnitudes.numpy(), mask[start:stop]
        crowd = Crowd(vector.operand.draws, start, stop)
        np.greater(values, np.float32(bottom.value), out=part)
        equals = crowd.chosen(values, bottom, low_limit)
        chosen += int(np.count_nonzero(equals))
        part |= equals
        if bounded:
            part &= (values < np.float32(top.value)) | crowd.chosen(values, top, high_limit)
    vector.edge = (chosen - needed, bottom.value)
    return mask


@dataclass(frozen=True)
class Crowd:
    """Elements start ... stop - 1, where draws decide among those of equal magnitude."""

    draws: Draws
    start: int
    stop: int

    def chosen(self, values: Magnitudes, edge: Statistic, limit: int) -> Mask:
        """Which elements of the edge's magnitude are kept, bool [stop - start]."""
        equal: Mask = values == np.float32(edge.value)
        if limit < LEVELS and equal.any():
            np.logical_and(equal, self.draws.raw(self.start, self.stop) < np.uint16(limit), out=equal)
        return equal


def _largest(vector: TaskVector) -> float:
    tables = vector.operand.tables
    if tables is not None and tables.largest is not None:
        return tables.largest
    largest = largest_of(largest_magnitude(delta) for _, _, delta in vector.pieces())
    if tables is not None:
        tables.largest = largest
    return largest


def _sums(vector: TaskVector, mask: Mask, largest: float) -> tuple[int, int, int]:
    """|delta|_1 and |delta x mask|_1 in units of 2**-s, and s = exponent(max |delta|); zeros if that is not finite.

    largest: the largest magnitude known so far. A larger one that requires another s is usually found early, so
    starting over costs less than a separate scan for the maximum.
    """
    while math.isfinite(largest):
        s = exponent(largest)
        total, kept, largest = _sums_up_to(vector, torch.from_numpy(mask.view(np.uint8)), s, largest)
        if exponent(largest) == s and math.isfinite(largest):
            return total, kept, s
    return 0, 0, 0


def _sums_up_to(vector: TaskVector, keep: Tensor, s: int, largest: float) -> tuple[int, int, float]:
    """The sums in units of 2**-s, and the largest magnitude; stops early if that requires another s."""
    total = kept = 0
    for start, stop, magnitudes in vector.magnitudes():
        largest = largest_of((largest, float(magnitudes.amax())))
        if not math.isfinite(largest) or exponent(largest) != s:
            break
        part_total, part_kept = integer_sums(fixed_point(magnitudes, s, out=magnitudes), keep[start:stop])
        total, kept = total + part_total, kept + part_kept
    return total, kept, largest


def _sums_by_draw(vector: TaskVector, tables: Tables, s: int) -> tuple[int, int]:
    """The same sums for a random drop, looked up in a table of |delta|_1 by draw, which serves every density."""
    if tables.kept_below is None:
        tables.kept_below = _table_by_draw(vector, s)
    draws, below = tables.kept_below
    limit = threshold(vector.operand.density)
    return int(below[-1]), int(below[np.searchsorted(draws, limit, side="left")])


def _table_by_draw(vector: TaskVector, s: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The draws that occur, ascending [k], and the sums of |delta| over elements with a lower draw [k + 1].

    The last sum is over all elements; sums are in units of 2**-s.
    """
    sums, counts = np.zeros(LEVELS, dtype=np.int64), np.zeros(LEVELS, dtype=np.int64)
    for start, stop, magnitudes in vector.magnitudes(CHUNK):
        draws = vector.operand.draws.raw(start, stop).astype(np.int64)
        # bincount adds in float64, which is exact for fewer than 2**22 integers below 2**31.
        integers = fixed_point(magnitudes, s, out=magnitudes).numpy()
        sums += np.bincount(draws, integers, minlength=LEVELS).astype(np.int64)
        counts += np.bincount(draws, minlength=LEVELS)
    present = np.flatnonzero(counts)
    return present, np.concatenate([[0], np.cumsum(sums[present])])
