"""Methods that blend whole tensors instead of summing task vectors: linear, slerp, model_stock, passthrough.

Knows operands and options. Angles come from fixed-point dot products, so they do not depend on the chunk size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from pydantic import Field
from torch import Tensor

from evovlm.methods._blending import Products, blend, clamped_cosine, dot_products, weighted_sums
from evovlm.methods._lines import Lines, blend_lines, line_products
from evovlm.methods._result import Result, as_float32
from evovlm.methods._scratch_buffers import SCRATCH
from evovlm.methods.operand import Operand
from evovlm.methods.options import MergeOptions, OwnOptions
from evovlm.system.errors import UnfitValues

__all__ = [
    "ModelStock",
    "Products",
    "by_row",
    "copy_single",
    "linear",
    "model_stock",
    "slerp",
    "slerp_factors",
    "stock_share",
]

# mergekit's conventions: above this |cosine| slerp is linear; norms and determinants below these count as zero.
COLLINEAR = 0.9995
LEAST_NORM = 1e-8
LEAST_NORM_PRODUCT = 1e-6
SINGULAR = 1e-6


class ModelStock(OwnOptions):
    """What model_stock measures angles of."""

    filter_wise: bool = Field(default=False, description="a ratio for each row of a matrix, not one for each tensor")


def linear(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Weighted sum of the sources; with `normalize`, divided by the sum of the weights (arXiv:2203.05482).

    Raises UnfitValues if `normalize` is set and the weights sum to 0.
    """
    weights = [as_float32(operand.weight) for operand in operands]
    divisor = as_float32(sum(weights)) if options.normalize else 1.0
    if divisor == 0.0:
        raise UnfitValues("weight: linear's weights sum to 0; change one, or set `normalize: false`")
    blend([operand.tensor for operand in operands], weights, divisor, result, chunk)


def slerp(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Spherical interpolation from the first source to the second, t = w2 / (w1 + w2).

    Linear if the tensors are nearly parallel or opposite. Raises UnfitValues if the weights sum to 0.
    """
    first, second = operands
    products = dot_products([first.tensor, second.tensor], None, chunk)
    factors = slerp_factors(first.weight, second.weight, products)
    blend([first.tensor, second.tensor], [as_float32(factor) for factor in factors], 1.0, result, chunk)


def slerp_factors(first: float, second: float, products: Products) -> list[float]:
    """What slerp multiplies the two sources by, from their weights and dot products. Raises UnfitValues as `slerp`."""
    weights = first + second
    if weights == 0.0:
        raise UnfitValues("weight: slerp's weights sum to 0, but t = w2 / (w1 + w2); change one weight")
    t = second / weights
    norms = [math.sqrt(products[index, index]) for index in (0, 1)]
    scale = math.prod(norm if norm > LEAST_NORM else 1.0 for norm in norms)
    cosine = clamped_cosine(products[0, 1] / scale)
    if abs(cosine) <= COLLINEAR:
        angle = math.acos(cosine)
        return [math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)]
    return [1.0 - t, t]


def model_stock(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Interpolate between base and plain average by the mean angle of the task vectors (arXiv:2403.19522, eq. 4).

    t = N cos / (1 + (N - 1) cos), where cos is the mean cosine over all pairs; weights are unused. With `filter_wise`,
    each vector along the last axis has a t of its own.
    """
    assert base is not None
    tensors = [operand.tensor for operand in operands]
    count = len(tensors)
    if by_row(options) and base.ndim > 1:
        _stock_by_line(base, tensors, result, chunk)
        return
    t = stock_share(count, dot_products(tensors, base, chunk))
    flat = base.detach().reshape(-1)
    buffer = SCRATCH.take("base", 1, min(chunk, flat.numel()))[0]
    for start, stop, average in weighted_sums(tensors, [1.0] * count, chunk):
        rest = buffer[: stop - start].copy_(flat[start:stop]).mul_(as_float32(1.0 - t))
        result.write(start, stop, average.div_(float(count)).mul_(as_float32(t)).add_(rest))


def by_row(options: MergeOptions) -> bool:
    """Whether model_stock's options ask for a ratio for each row."""
    own: ModelStock | None = options.own
    return own is not None and own.filter_wise


def _stock_by_line(base: Tensor, tensors: Sequence[Tensor], result: Result, chunk: int) -> None:
    lines, count = Lines.of(base.shape), len(tensors)
    products = line_products(tensors, base, lines, chunk)
    shares = [
        stock_share(count, {pair: float(values[line]) for pair, values in products.items()})
        for line in range(lines.count)
    ]
    blend_lines(tensors, base, lines, [[share / count for share in shares]] * count, result, chunk)


def stock_share(count: int, products: Products) -> float:
    """model_stock's share of the average, from the dot products of the task vectors of `count` sources."""
    cosines = []
    for left, right in combinations(range(count), 2):
        norms = math.sqrt(products[left, left]) * math.sqrt(products[right, right])
        cosines.append(clamped_cosine(products[left, right] / max(norms, LEAST_NORM_PRODUCT)))
    cosine = math.fsum(cosines) / len(cosines)
    determinant = 1.0 + (count - 1) * cosine
    # Task vectors that cancel out have no best average; keep the base.
    return 0.0 if abs(determinant) < SINGULAR else count * cosine / determinant


def copy_single(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """passthrough: copy the only source."""
    blend([operands[0].tensor], [1.0], 1.0, result, chunk)
