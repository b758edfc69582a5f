"""Masks made on a device for drops that the fused pass cannot decide by itself, and the factor of what they keep.

Knows task vectors, densities and draws; no recipes. The same choices, bit for bit, as `methods._drop` makes on a CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from evovlm.methods._drop import della_factors, della_limits
from evovlm.methods._fixed_point import exponent, fixed_point
from evovlm.methods.draws import LEVELS, Draws, threshold
from evovlm.methods.kernels.tables import Window, largest_of_delta
from evovlm.methods.operand import spans
from evovlm.methods.options import Rescale

# Elements whose rows are sorted at once: sorting takes about twenty bytes for each.
PIECE = 1 << 26


def della_mask(
    sizes: Tensor, row: int, density: float, epsilon: float, draws: Draws, *, per_element: bool = False
) -> Tensor:
    """DELLA's mask, int8 [n]: the keep-probability grows with the rank of |delta| in its row (arXiv:2406.11617).

    sizes: |delta|, float32 [n]. row: elements per row. density: above 0 and below 1. epsilon: half the spread of the
    probabilities. draws: on the device of `sizes`. per_element: return float32 [n] instead, 1 / the probability of
    each kept element (`methods._drop.element_factors`).
    """
    device = sizes.device
    limits = torch.from_numpy(della_limits(density, epsilon, row).astype(np.int32)).to(device)
    factors = torch.from_numpy(della_factors(density, epsilon, row)).to(device)
    mask = torch.empty(sizes.numel(), dtype=torch.float32 if per_element else torch.int8, device=device)
    for start, stop in spans(sizes.numel(), max(1, PIECE // row) * row):
        # A stable sort ranks equal magnitudes by index.
        order = torch.argsort(sizes[start:stop].view(-1, row), dim=1, stable=True)
        of_element = torch.empty_like(order, dtype=torch.int32).scatter_(1, order, limits.expand_as(order))
        kept = draws.take(start, stop) < of_element.view(-1)
        if per_element:
            own = torch.empty_like(order, dtype=torch.float32).scatter_(1, order, factors.expand_as(order))
            torch.mul(own.view(-1), kept, out=mask[start:stop])
        else:
            mask[start:stop] = kept
    return mask


def window_mask(sizes: Tensor, window: Window, draws: Draws) -> Tensor:
    """Breadcrumbs' mask, int8 [n], of |delta|, float32 [n]. draws: on the device of `sizes`."""
    drawn = draws.take(0, sizes.numel())
    kept = (sizes > window.bottom) | ((sizes == window.bottom) & (drawn < window.bottom_limit))
    kept &= (sizes < window.top) | ((sizes == window.top) & (drawn < window.top_limit))
    return kept.view(torch.int8)


def kept_ratio(sizes: Tensor, mask: Tensor, density: float, rescale: Rescale) -> float:
    """The factor for what a mask keeps, as `methods._drop.rescale_factor` defines it, from fixed-point sums."""
    if rescale in ("none", "per_element"):
        return 1.0
    if rescale == "inverse":
        kept = threshold(density)
        return LEVELS / kept if kept else 1.0
    largest = largest_of_delta(sizes)
    if not math.isfinite(largest):
        return 1.0
    integers = fixed_point(sizes, exponent(largest)).long()
    total, kept = torch.stack([integers.sum(), integers.mul_(mask).sum()]).tolist()
    return total / kept if kept else 1.0
