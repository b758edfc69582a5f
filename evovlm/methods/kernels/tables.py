"""Tables made once per source and tensor, in which each candidate's threshold and `l1` factor are looked up.

Knows task vectors on a device and densities; no models and no recipes. Masks are nested in density, so one cumulative
table serves every density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods._fixed_point import exponent, fixed_point
from evovlm.methods.draws import LEVELS, threshold

# A table of magnitudes keeps every distinct value up to this many; beyond that it keeps enough of them that less than
# 2**-15 of the elements lie between two neighbours.
MOST_VALUES = 1 << 17
STEPS = 1 << 16
PIECE = 1 << 26

Sums = NDArray[np.int64]


class Edge(NamedTuple):
    """Which magnitudes are kept: those above `value`, and those equal to it with a draw below `limit` (0 ... 65536).

    ratio: |delta|_1 divided by that of the kept elements.
    """

    value: float
    limit: int
    ratio: float


class Window(NamedTuple):
    """Which magnitudes are kept: those between `bottom` and `top`, and of those equal to either, as draws say.

    bottom_limit, top_limit: equal ones are kept if their draw is below (0 ... 65536).
    """

    bottom: float
    bottom_limit: int
    top: float
    top_limit: int


@dataclass(frozen=True)
class DrawSums:
    """|delta|_1, in fixed point, of the elements whose draw is below 0, 1, ... 65536: int64 [65537]."""

    below: Sums

    def ratio(self, limit: int) -> float:
        """|delta|_1 divided by that of the elements with a draw below `limit`; 1 if that is 0."""
        total, kept = int(self.below[-1]), int(self.below[limit])
        return total / kept if kept else 1.0


@dataclass(frozen=True)
class Magnitudes:
    """The distinct magnitudes of a task vector, ascending.

    values: float32 [k]. ends, equal: int64 [k], how many elements are not larger than each value, and how many are
    equal. sums: int64 [k + 1], |delta|_1 in fixed point of the smaller elements; the last is of all elements.
    integers: int64 [k], each value in fixed point. count: number of elements.
    """

    values: NDArray[np.float32]
    ends: Sums
    equal: Sums
    sums: Sums
    integers: Sums
    count: int

    @property
    def exact(self) -> bool:
        """Whether the table has every value."""
        return int(self.equal.sum()) == self.count

    def edge(self, density: float) -> Edge:
        """The edge above which the int(density x count) largest lie (at least one); exact if the table has every value.

        Otherwise the share kept is at most 2**-15 below the density.
        """
        low = self.count - max(1, int(density * self.count))
        place = int(np.searchsorted(self.ends, low, side="right"))
        equal = int(self.equal[place])
        needed = min(int(self.ends[place]) - low, equal)
        limit = threshold(needed / equal)
        kept = int(self.sums[-1] - self.sums[place]) - (equal - needed) * int(self.integers[place])
        return Edge(float(self.values[place]), limit, int(self.sums[-1]) / kept if kept else 1.0)

    def window(self, density: float, gamma: float) -> Window | None:
        """What is left of the int(density x count) largest after the int(gamma x count) largest; None if nothing is.

        As `methods._drop` defines it for breadcrumbs; exact if the table has every value.
        """
        kept = int(density * self.count)
        if not kept:
            return None
        low = max(0, self.count - kept - int(gamma * self.count))
        high = low + kept
        bottom, top = (int(np.searchsorted(self.ends, rank, side="right")) for rank in (low, high - 1))
        needed = min(int(self.ends[bottom]), high) - low
        bottom_limit = threshold(min(1.0, needed / int(self.equal[bottom])))
        if high >= self.count:
            return Window(float(self.values[bottom]), bottom_limit, math.inf, LEVELS)
        below = int(self.ends[top] - self.equal[top])
        # If both edges have the same magnitude, its elements are thinned out only once.
        share = 1.0 if bottom == top else max(0.0, (high - below) / int(self.equal[top]))
        return Window(float(self.values[bottom]), bottom_limit, float(self.values[top]), threshold(share))


def magnitudes_of(sizes: Tensor) -> Magnitudes:
    """Make the table of float32 |delta| [n], finite, n > 0, on their device. Needs a few times their memory."""
    values, counts = torch.unique(sizes, return_counts=True)
    s = exponent(float(values[-1]))
    integers = fixed_point(values, s).double()
    ends = torch.cumsum(counts, 0)
    # The sum stays below 2**63: integers are below 2**31, and the counts sum to less than 2**32.
    sums = torch.cumsum(integers.long() * counts, 0)
    if len(values) > MOST_VALUES:
        asked = torch.arange(STEPS, device=sizes.device, dtype=torch.float64) * (len(sizes) / STEPS)
        chosen = torch.unique(torch.searchsorted(ends, asked.long(), right=True))
        chosen = torch.unique(torch.cat([chosen, chosen.new_tensor([len(values) - 1])]))
    else:
        chosen = torch.arange(len(values), device=sizes.device)
    before = torch.cat([sums.new_zeros(1), sums[:-1]])
    return Magnitudes(
        values=_numpy(values[chosen]),
        ends=_numpy(ends[chosen]),
        equal=_numpy(counts[chosen]),
        sums=np.append(_numpy(before[chosen]), int(sums[-1])),
        integers=_numpy(integers.long()[chosen]),
        count=sizes.numel(),
    )


def largest_of_delta(delta: Tensor) -> float:
    """max |delta|; NaN if any is NaN, 0 if empty."""
    if delta.numel() == 0:
        return 0.0
    low, high = torch.aminmax(delta)
    return float(torch.maximum(-low, high))


def _numpy(values: Tensor) -> Any:
    return values.cpu().numpy()
