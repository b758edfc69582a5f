"""Dot products of whole tensors on a device: the integers that the CPU sums, so the same numbers in any order.

Knows flat tensors; no methods and no recipes. Products are exact in float64, rounded to fixed point and added as
integers (`_fixed_point`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from evovlm.methods._fixed_point import PRODUCT_BITS, exponent
from evovlm.methods.kernels.tables import largest_of_delta
from evovlm.methods.operand import spans

# Elements at once: an int64 sum of so many products, each below 2**36, cannot overflow.
PIECE = 1 << 24


def dot_products(tensors: Sequence[Tensor], base: Tensor | None) -> dict[tuple[int, int], float]:
    """Dot products of all pairs of tensors, or of their differences from the base, by pair (left not after right).

    tensors, base: flat, of equal length, any floating dtype; differences are in float32. NaN if any value is not
    finite.
    """
    pairs = list(combinations_with_replacement(range(len(tensors)), 2))
    found = [[largest_of_delta(part) for part in parts] for parts in _differences(tensors, base)]
    if not found:
        return dict.fromkeys(pairs, 0.0)  # empty tensors
    if not all(math.isfinite(value) for row in found for value in row):
        return dict.fromkeys(pairs, math.nan)
    largest = [max(column) for column in zip(*found, strict=True)]
    powers = {(left, right): exponent(largest[left] * largest[right], PRODUCT_BITS) for left, right in pairs}
    sums = []
    for parts in _differences(tensors, base):
        wide = [part.double() for part in parts]
        rounded = ((wide[left] * wide[right]).mul_(2.0 ** powers[left, right]).round_() for left, right in pairs)
        sums.append(torch.stack([values.long().sum() for values in rounded]))
    totals = [sum(column) for column in zip(*torch.stack(sums).tolist(), strict=True)]
    return {pair: math.ldexp(total, -powers[pair]) for pair, total in zip(pairs, totals, strict=True)}


def _differences(tensors: Sequence[Tensor], base: Tensor | None) -> Iterator[list[Tensor]]:
    for start, stop in spans(tensors[0].numel(), PIECE):
        parts = [tensor[start:stop].float() for tensor in tensors]
        yield parts if base is None else [part - base[start:stop].float() for part in parts]
