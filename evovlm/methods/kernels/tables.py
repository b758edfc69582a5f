"""Tables made once a source and tensor, from which each candidate's threshold and `l1` factor are looked up.

Knows task vectors on a device and densities; no models and no recipes. Masks are nested in density, so one cumulative
table serves every density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods._fixed_point import exponent, fixed_point
from evovlm.methods.draws import threshold

# A table of magnitudes keeps all values that occur up to this number; of more, so many that a gap between two holds
# less than 2**-15 of the elements.
MOST_VALUES = 1 << 17
STEPS = 1 << 16
PIECE = 1 << 26

Sums = NDArray[np.int64]


class Edge(NamedTuple):
    """What a magnitude has to be: above `value`, or equal to it with a draw below `limit` (0 ... 65536).

    ratio: |delta|_1 over that of what is kept.
    """

    value: float
    limit: int
    ratio: float


@dataclass(frozen=True)
class DrawSums:
    """|delta|_1 in fixed point of the elements whose draw lies below 0, 1, ... 65536: int64 [65537]."""

    below: Sums

    def ratio(self, limit: int) -> float:
        """|delta|_1 over that of the elements with a draw below `limit`; 1 where none is left."""
        total, kept = int(self.below[-1]), int(self.below[limit])
        return total / kept if kept else 1.0


@dataclass(frozen=True)
class Magnitudes:
    """The magnitudes that occur in a task vector, ascending.

    values: float32 [k]. ends, equal: how many elements are not larger, and how many equal. sums: |delta|_1 in fixed
    point of those smaller, int64 [k + 1], the last of all. integers: each value in fixed point. count: elements.
    """

    values: NDArray[np.float32]
    ends: Sums
    equal: Sums
    sums: Sums
    integers: Sums
    count: int

    def edge(self, density: float) -> Edge:
        """Where the int(density x count) largest, at least one, begin; exact where the table holds every value.

        Where it does not, the share kept is at most 2**-15 below the density.
        """
        low = self.count - max(1, int(density * self.count))
        place = int(np.searchsorted(self.ends, low, side="right"))
        equal = int(self.equal[place])
        needed = min(int(self.ends[place]) - low, equal)
        limit = threshold(needed / equal)
        kept = int(self.sums[-1] - self.sums[place]) - (equal - needed) * int(self.integers[place])
        return Edge(float(self.values[place]), limit, int(self.sums[-1]) / kept if kept else 1.0)


def magnitudes_of(sizes: Tensor) -> Magnitudes:
    """The table of float32 |delta| [n], finite, n > 0; on their device. Takes a few times their memory."""
    values, counts = torch.unique(sizes, return_counts=True)
    s = exponent(float(values[-1]))
    integers = fixed_point(values, s).double()
    ends = torch.cumsum(counts, 0)
    # Products below 2**63 in all: integers below 2**31, counts below 2**32.
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
    """max |delta|, NaN if one is NaN; 0 of none."""
    if delta.numel() == 0:
        return 0.0
    low, high = torch.aminmax(delta)
    return float(torch.maximum(-low, high))


def _numpy(values: Tensor) -> Any:
    return values.cpu().numpy()
