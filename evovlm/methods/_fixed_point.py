"""Fixed-point sums, which do not depend on order, chunk size, thread count or device as floating-point sums do.

Knows tensors of numbers, not what they mean. Every term is scaled by a power of two that depends only on the
largest term, and rounded to an integer; integers have the same sum in any order.
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
DEVICE_BLOCK = 1 << 24  # int64 holds the sum of so many integers below 2**PRODUCT_BITS
# Keeps the scale a normal float32. Tensors whose largest entry is below 2**-95 lose bits, equally on every device.
MOST = 126


def exponent(largest: float, bits: int = BITS) -> int:
    """The s for which largest x 2**s is just under 2**bits (s is at most MOST). 0 for zero, infinity or NaN."""
    if not math.isfinite(largest) or largest == 0.0:
        return 0
    return min(bits - math.frexp(largest)[1], MOST)


def largest_magnitude(values: Tensor) -> float:
    """max |x| of a float32 tensor; 0 if it is empty, NaN if it contains a NaN."""
    if values.numel() == 0:
        return 0.0
    low, high = torch.aminmax(values)
    return max(-float(low), float(high)) if not math.isnan(float(low)) else math.nan


def largest_of(magnitudes: Iterable[float]) -> float:
    """The largest magnitude; 0 if there are none, NaN if any is NaN (`max` can lose it, depending on its position)."""
    largest = 0.0
    for magnitude in magnitudes:
        if math.isnan(magnitude):
            return math.nan
        largest = max(largest, magnitude)
    return largest


def fixed_point(magnitudes: Tensor, s: int, out: Tensor | None = None) -> Tensor:
    """round(x * 2**s) for float32 x >= 0, halves to even: integers below 2**31, stored as float32, same shape."""
    return torch.mul(magnitudes, 2.0**s, out=out).round_()


def integer_sums(integers: Tensor, keep: Tensor) -> tuple[int, int]:
    """The exact sums of all the integers, each below 2**31, and of those kept.

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
    largest: an upper bound of |left x right|; use the same bound for every part of a tensor, so the sums can be added.
    """
    s = exponent(largest, PRODUCT_BITS)
    # A GPU adds more at a time, as integers of 64 bits, because reading a number back takes as long as many sums.
    dtype, block = (torch.float64, BLOCK) if left.device.type == "cpu" else (torch.int64, DEVICE_BLOCK)
    total = 0
    for x, y in zip(_blocks(left, block), _blocks(right, block), strict=True):
        products = x.double().mul_(y).mul_(2.0**s).round_()
        total += int(products.to(dtype).sum())
    return total


def _blocks(values: Tensor, size: int = BLOCK) -> Iterator[Tensor]:
    return (values[start : start + size] for start in range(0, values.numel(), size))
