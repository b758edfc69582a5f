"""Weighted sums and dot products of whole tensors, or of their differences from a base, in chunks.

Knows tensors and numbers; no methods and no options. Every number is the same for any chunk size and on any device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

from torch import Tensor

from evovlm.methods._fixed_point import PRODUCT_BITS, exponent, fixed_dot, largest_magnitude, largest_of
from evovlm.methods._result import Result
from evovlm.methods._scratch_buffers import SCRATCH
from evovlm.methods.operand import spans

Products = Mapping[tuple[int, int], float]  # dot products by pair (left, right), left not after right


# On a GPU, `chunk` is the whole tensor; more elements than these at a time only take memory.
MOST_AT_ONCE = 1 << 24


def blend(tensors: Sequence[Tensor], weights: Sequence[float], divisor: float, result: Result, chunk: int) -> None:
    """Write the weighted sum of the tensors, divided by `divisor`. weights, divisor: float32 numbers."""
    for start, stop, values in weighted_sums(tensors, weights, chunk):
        result.write(start, stop, values if divisor == 1.0 else values.div_(divisor))


def weighted_sums(tensors: Sequence[Tensor], weights: Sequence[float], chunk: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (start, stop, sum of weight x tensor); products are rounded and added in source order.

    Each sum, float32 [stop - start], is valid until the next one.
    """
    flats = [tensor.detach().reshape(-1) for tensor in tensors]
    count = flats[0].numel()
    size = min(chunk, count, MOST_AT_ONCE)
    buffers = SCRATCH.take("sums", 2, size, flats[0].device)
    for start, stop in spans(count, max(size, 1)):
        total, product = buffers[:, : stop - start]
        total.copy_(flats[0][start:stop]).mul_(weights[0])
        for flat, weight in zip(flats[1:], weights[1:], strict=True):
            total.add_(product.copy_(flat[start:stop]).mul_(weight))
        yield start, stop, total


def blend_differences(
    tensors: Sequence[Tensor], base: Tensor, weights: Sequence[float], result: Result, chunk: int
) -> None:
    """Write base + the weighted sum of the tensors' differences from it. weights: float32 numbers."""
    for start, stop, root, parts in differences(tensors, base, min(chunk, MOST_AT_ONCE)):
        total = parts[0].mul_(weights[0])
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total.add_(part.mul_(weight))
        result.write(start, stop, total.add_(root))


def dot_products(tensors: Sequence[Tensor], base: Tensor | None, chunk: int) -> dict[tuple[int, int], float]:
    """Dot products of all pairs of tensors, or of their differences from the base; differences are in float32.

    NaN if any value is not finite.
    """
    pairs = list(combinations_with_replacement(range(len(tensors)), 2))
    found = [
        [largest_magnitude(part) for part in parts]
        for *_, parts in differences(tensors, base, min(chunk, MOST_AT_ONCE))
    ]
    largest = [largest_of(column) for column in zip(*found, strict=True)]
    if not largest:
        return dict.fromkeys(pairs, 0.0)  # empty tensors
    if not all(math.isfinite(value) for value in largest):
        return dict.fromkeys(pairs, math.nan)
    totals = dict.fromkeys(pairs, 0)
    for *_, parts in differences(tensors, base, min(chunk, MOST_AT_ONCE)):
        for left, right in pairs:
            totals[left, right] += fixed_dot(parts[left], parts[right], largest[left] * largest[right])
    return {
        (left, right): math.ldexp(total, -exponent(largest[left] * largest[right], PRODUCT_BITS))
        for (left, right), total in totals.items()
    }


def differences(
    tensors: Sequence[Tensor], base: Tensor | None, chunk: int
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Yield (start, stop, base, parts) over the whole tensors: each part is a tensor minus the base, if there is one.

    base: float32 [stop - start]. parts: float32 [tensors, stop - start]. Both may be overwritten, and are valid until
    the next; a thread may run only one such scan at a time. Zeros of the base are positive, so that no zero of a merge
    has a sign that depends on the order of a sum.
    """
    flats = [tensor.detach().reshape(-1) for tensor in tensors]
    count = flats[0].numel()
    size = min(chunk, count)
    buffers = SCRATCH.take("differences", len(flats) + 1, size, flats[0].device)
    for start, stop in spans(count, max(size, 1)):
        parts = buffers[:, : stop - start]
        if base is not None:
            parts[-1].copy_(base.detach().reshape(-1)[start:stop]).add_(0.0)
        for flat, part in zip(flats, parts[:-1], strict=True):
            part.copy_(flat[start:stop])
            if base is not None:
                part.sub_(parts[-1])
        yield start, stop, parts[-1], parts[:-1]


def clamped_cosine(cosine: float) -> float:
    """The cosine within -1 to 1; NaN stays NaN."""
    return cosine if math.isnan(cosine) else max(-1.0, min(1.0, cosine))
