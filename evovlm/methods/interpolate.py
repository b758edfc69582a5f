"""Methods that blend whole tensors instead of summing task vectors: linear, slerp, model_stock, passthrough.

Knows operands and options. Angles come from fixed-point dot products, so they do not depend on the chunk size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, combinations_with_replacement

from torch import Tensor

from evovlm.methods._fixed_point import PRODUCT_BITS, exponent, fixed_dot, largest_magnitude, largest_of
from evovlm.methods._result import Result, as_float32
from evovlm.methods._scratch_buffers import SCRATCH
from evovlm.methods.operand import Operand, spans
from evovlm.methods.options import MergeOptions
from evovlm.system.errors import UnfitValues

# mergekit's conventions: above this |cosine| slerp is linear; norms and determinants below these count as zero.
COLLINEAR = 0.9995
LEAST_NORM = 1e-8
LEAST_NORM_PRODUCT = 1e-6
SINGULAR = 1e-6

Products = Mapping[tuple[int, int], float]  # dot products by pair (left, right), left not after right


def linear(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Weighted sum of the sources; with `normalize`, divided by the sum of the weights (arXiv:2203.05482).

    Raises UnfitValues if `normalize` is set and the weights sum to 0.
    """
    weights = [as_float32(operand.weight) for operand in operands]
    divisor = as_float32(sum(weights)) if options.normalize else 1.0
    if divisor == 0.0:
        raise UnfitValues("weight: linear's weights sum to 0; change one, or set `normalize: false`")
    _blend([operand.tensor for operand in operands], weights, divisor, result, chunk)


def slerp(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Spherical interpolation from the first source to the second, t = w2 / (w1 + w2).

    Linear if the tensors are nearly parallel or opposite. Raises UnfitValues if the weights sum to 0.
    """
    first, second = operands
    products = _dot_products([first.tensor, second.tensor], None, chunk)
    factors = slerp_factors(first.weight, second.weight, products)
    _blend([first.tensor, second.tensor], [as_float32(factor) for factor in factors], 1.0, result, chunk)


def slerp_factors(first: float, second: float, products: Products) -> list[float]:
    """What slerp multiplies the two sources by, from their weights and dot products. Raises UnfitValues as `slerp`."""
    weights = first + second
    if weights == 0.0:
        raise UnfitValues("weight: slerp's weights sum to 0, but t = w2 / (w1 + w2); change one weight")
    t = second / weights
    norms = [math.sqrt(products[index, index]) for index in (0, 1)]
    scale = math.prod(norm if norm > LEAST_NORM else 1.0 for norm in norms)
    cosine = _clamp(products[0, 1] / scale)
    if abs(cosine) <= COLLINEAR:
        angle = math.acos(cosine)
        return [math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)]
    return [1.0 - t, t]


def model_stock(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Interpolate between base and plain average by the mean angle of the task vectors (arXiv:2403.19522, eq. 4).

    t = N cos / (1 + (N - 1) cos), where cos is the mean cosine over all pairs; weights are unused.
    """
    assert base is not None
    tensors = [operand.tensor for operand in operands]
    count = len(tensors)
    t = stock_share(count, _dot_products(tensors, base, chunk))
    flat = base.detach().reshape(-1)
    buffer = SCRATCH.take("base", 1, min(chunk, flat.numel()))[0]
    for start, stop, average in _sums(tensors, [1.0] * count, chunk):
        rest = buffer[: stop - start].copy_(flat[start:stop]).mul_(as_float32(1.0 - t))
        result.write(start, stop, average.div_(float(count)).mul_(as_float32(t)).add_(rest))


def stock_share(count: int, products: Products) -> float:
    """model_stock's share of the average, from the dot products of the task vectors of `count` sources."""
    cosines = []
    for left, right in combinations(range(count), 2):
        norms = math.sqrt(products[left, left]) * math.sqrt(products[right, right])
        cosines.append(_clamp(products[left, right] / max(norms, LEAST_NORM_PRODUCT)))
    cosine = math.fsum(cosines) / len(cosines)
    determinant = 1.0 + (count - 1) * cosine
    # Task vectors that cancel out have no best average; keep the base.
    return 0.0 if abs(determinant) < SINGULAR else count * cosine / determinant


def copy_single(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """passthrough: copy the only source."""
    _blend([operands[0].tensor], [1.0], 1.0, result, chunk)


def _blend(tensors: Sequence[Tensor], weights: Sequence[float], divisor: float, result: Result, chunk: int) -> None:
    for start, stop, values in _sums(tensors, weights, chunk):
        result.write(start, stop, values if divisor == 1.0 else values.div_(divisor))


def _sums(tensors: Sequence[Tensor], weights: Sequence[float], chunk: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (start, stop, sum of weight x tensor); products are rounded and added in source order.

    Each sum, float32 [stop - start], is valid until the next one.
    """
    flats = [tensor.detach().reshape(-1) for tensor in tensors]
    count = flats[0].numel()
    buffers = SCRATCH.take("sums", 2, min(chunk, count))
    for start, stop in spans(count, chunk):
        total, product = buffers[:, : stop - start]
        total.copy_(flats[0][start:stop]).mul_(weights[0])
        for flat, weight in zip(flats[1:], weights[1:], strict=True):
            total.add_(product.copy_(flat[start:stop]).mul_(weight))
        yield start, stop, total


def _dot_products(tensors: Sequence[Tensor], base: Tensor | None, chunk: int) -> dict[tuple[int, int], float]:
    """Dot products of all pairs of tensors, or of their differences from the base; differences are in float32."""
    pairs = list(combinations_with_replacement(range(len(tensors)), 2))
    found = [[largest_magnitude(part) for part in parts] for parts in _differences(tensors, base, chunk)]
    largest = [largest_of(column) for column in zip(*found, strict=True)]
    if not largest:
        return dict.fromkeys(pairs, 0.0)  # empty tensors
    if not all(math.isfinite(value) for value in largest):
        return dict.fromkeys(pairs, math.nan)
    sums = dict.fromkeys(pairs, 0)
    for parts in _differences(tensors, base, chunk):
        for left, right in pairs:
            sums[left, right] += fixed_dot(parts[left], parts[right], largest[left] * largest[right])
    return {
        (left, right): math.ldexp(total, -exponent(largest[left] * largest[right], PRODUCT_BITS))
        for (left, right), total in sums.items()
    }


def _differences(tensors: Sequence[Tensor], base: Tensor | None, chunk: int) -> Iterator[Tensor]:
    """Yield float32 [tensors, n] chunks of the tensors, minus the base if there is one."""
    flats = [tensor.detach().reshape(-1) for tensor in tensors]
    count = flats[0].numel()
    buffers = SCRATCH.take("differences", len(flats) + 1, min(chunk, count))
    for start, stop in spans(count, chunk):
        parts = buffers[:, : stop - start]
        if base is not None:
            parts[-1].copy_(base.detach().reshape(-1)[start:stop])
        for flat, part in zip(flats, parts[:-1], strict=True):
            part.copy_(flat[start:stop])
            if base is not None:
                part.sub_(parts[-1])
        yield parts[:-1]


def _clamp(cosine: float) -> float:
    return cosine if math.isnan(cosine) else max(-1.0, min(1.0, cosine))
