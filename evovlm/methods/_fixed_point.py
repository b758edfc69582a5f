"""Sums that no order, chunk size, thread count or device can change: fixed point instead of floating point.

Knows tensors of numbers, not what they mean. Every term is scaled by a power of two that depends on the
largest term alone and rounded to an integer; integers add up the same in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

# Bits of the largest term. A float64 sum of up to 2**22 such terms is exact: integers below 2**53.
BITS = 31
PRODUCT_BITS = 36
BLOCK = 1 << 16
# Keeps the scale a normal float32: tensors whose largest entry is below 2**-95 lose bits, the same everywhere.
MOST = 126


def exponent(largest: float, bits: int = BITS) -> int:
    """The s for which largest x 2**s lies just under 2**bits. 0 for zero, infinity or NaN."""
    if not math.isfinite(largest) or largest == 0.0:
        return 0
    return min(bits - math.frexp(largest)[1], MOST)


def largest_magnitude(values: Tensor) -> float:
    """max |x| of a float32 tensor; 0 where it is empty, NaN where it holds one."""
    if values.numel() == 0:
        return 0.0
    low, high = torch.aminmax(values)
    return max(-float(low), float(high)) if not math.isnan(float(low)) else math.nan


def largest_of(magnitudes: Iterable[float]) -> float:
    """The largest, 0 of none, NaN if one is NaN, wherever it stands (which `max` would lose)."""
    largest = 0.0
    for magnitude in magnitudes:
        if math.isnan(magnitude):
            return math.nan
        largest = max(largest, magnitude)
    return largest


def fixed_point(magnitudes: Tensor, s: int, out: Tensor | None = None) -> Tensor:
    """round(x x 2**s) of float32 x >= 0, integers below 2**31 in float32, halves to even; same shape."""
    return torch.mul(magnitudes, 2.0**s, out=out).round_()


def integer_sums(integers: Tensor, keep: Tensor) -> tuple[int, int]:
    """The exact sums of integers below 2**31: of all, and of those kept.

    integers: float32 [n], from `fixed_point`. keep: uint8 [n], 0 or 1.
    """
    total = kept = 0
    for part, flags in zip(_blocks(integers), _blocks(keep), strict=True):
        exact = part.double()
        total += int(exact.sum())
        kept += int(torch.dot(exact, flags.double()))
    return total, kept


def fixed_dot(left: Tensor, right: Tensor, largest: float) -> int:
    """Sum of left x right, in units of 2**-exponent(largest, PRODUCT_BITS).

    left, right: float32 [n]; their products, exact in float64, are rounded to fixed point and summed.
    largest: an upper bound of |left x right|, the same for every part of a tensor whose sums are added up.
    """
    s = exponent(largest, PRODUCT_BITS)
    total = 0
    for x, y in zip(_blocks(left), _blocks(right), strict=True):
        products = x.double().mul_(y).mul_(2.0**s).round_()
        total += int(products.sum())
    return total


def _blocks(values: Tensor) -> Iterator[Tensor]:
    return (values[start : start + BLOCK] for start in range(0, values.numel(), BLOCK))
