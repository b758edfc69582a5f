"""Methods that interpolate on the sphere: nuslerp, multislerp and karcher.

Knows operands and options. They differ in how several directions are averaged, and in the length that the result gets.
All of them are weighted sums of the tensors, whose weights follow from dot products, so no number depends on the chunk
size, on threads or on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from evovlm.methods._blending import Products, blend, blend_differences, clamped_cosine, dot_products
from evovlm.methods._directions import Combination, Directions, added, scaled
from evovlm.methods._lines import Lines, blend_lines, line_products
from evovlm.methods._result import Result, as_float32
from evovlm.methods.operand import Operand
from evovlm.methods.options import MergeOptions, OwnOptions
from evovlm.system.errors import UnfitValues

# mergekit's conventions: a smaller norm counts as this one, a smaller sum of weights gives t = 1/2, and where
# 1 - cos**2 is at most PARALLEL, vectors count as parallel (or opposite) and are interpolated linearly.
LEAST_NORM = 1e-7
LEAST_SUM = 1e-6
PARALLEL = 1e-16
# A mean direction shorter than this share of what it is the mean of is rounding: the directions cancel out.
CANCELLED = 1e-5


class Nuslerp(OwnOptions):
    """What nuslerp interpolates. The names are mergekit's without `nuslerp_`."""

    flatten: bool = Field(default=True, description="turn each tensor as one vector; false: row by row")
    row_wise: bool = Field(
        default=False, description="with `flatten: false`, turn the vectors along the first axis: columns of a matrix"
    )


class Multislerp(OwnOptions):
    """How multislerp uses weights."""

    normalize_weights: bool = Field(default=True, description="divide the weights by their sum")
    eps: float = Field(default=1e-8, ge=0.0, description="added to lengths that are divided by")


class Karcher(OwnOptions):
    """When karcher stops."""

    max_iter: int = Field(default=10, ge=0, le=1000, description="the most steps")
    tol: float = Field(
        default=1e-5, ge=0.0, description="a shorter step is the last; a shorter tensor has no direction"
    )


def nuslerp(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Spherical interpolation of two tensors, t = w2 / (w1 + w2), or of their task vectors if there is a base.

    With `flatten`, the whole tensor is one vector. Without it, each vector runs along the last axis or, with
    `row_wise`, along the first (a column of a matrix [out, in]; mergekit's name says the opposite). The lengths stay
    in the sum. Weights may be negative; if they sum to less than 1e-6 in size, t is 1/2. As in mergekit 0.1.5, except
    that vectors that are opposite up to rounding are interpolated linearly: there, what mergekit gives is rounding.
    """
    own: Nuslerp = options.own
    tensors = [operand.tensor for operand in operands]
    first, second = (operand.weight for operand in operands)
    t = second / (first + second) if abs(first + second) >= LEAST_SUM else 0.5
    if own.flatten or tensors[0].ndim < 2:
        products = dot_products(tensors, base, chunk)
        factors = [as_float32(factor) for factor in spherical_factors(t, products)]
        _sum(tensors, base, factors, result, chunk)
        return
    lines = Lines.of(tensors[0].shape, first_axis=own.row_wise)
    found = line_products(tensors, base, lines, chunk)
    each = [
        spherical_factors(t, {pair: float(values[index]) for pair, values in found.items()})
        for index in range(lines.count)
    ]
    blend_lines(tensors, base, lines, list(zip(*each, strict=True)), result, chunk)


def spherical_factors(t: float, products: Products) -> tuple[float, float]:
    """What nuslerp multiplies two vectors by, from their dot products. NaN where these are."""
    norms = [max(math.sqrt(products[index, index]), LEAST_NORM) for index in (0, 1)]
    # Rounded, so that nearly parallel vectors count as parallel, as they do in float32: sin(angle) is a divisor.
    cosine = clamped_cosine(as_float32(products[0, 1] / math.prod(norms)))
    if 1.0 - cosine * cosine <= PARALLEL:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def multislerp(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Mean direction of any number of tensors (of their task vectors if there is a base) by one step on the sphere.

    The weighted mean of the unit vectors, projected to the sphere, is moved by the weighted mean of the tangents to
    them; the result's length is the weighted mean of the lengths (goddard.blog/posts/multislerp-wow-what-a-cool-idea).
    One source is copied. Two whose directions cancel out are averaged linearly; three or more that do raise
    UnfitValues, as do weights that sum to 0 with `normalize_weights`. If all task vectors are zero, the result is the
    base (mergekit stops at three or more of them).
    """
    own: Multislerp = options.own
    tensors = [operand.tensor for operand in operands]
    if len(tensors) == 1:
        blend(tensors, [1.0], 1.0, result, chunk)
        return
    weights = [operand.weight for operand in operands]
    if own.normalize_weights:
        total = math.fsum(weights)
        if total == 0.0:
            raise UnfitValues("weight: multislerp's weights sum to 0; change one, or set `normalize_weights: false`")
        weights = [weight / total for weight in weights]
    directions = Directions.of(len(tensors), dot_products(tensors, base, chunk), own.eps)
    factors = [as_float32(factor) for factor in _one_step(directions, weights, own.eps)]
    _sum(tensors, base, factors, result, chunk)


def _one_step(directions: Directions, weights: Sequence[float], eps: float) -> Combination:
    if not any(directions.norms) or not any(weights):
        return [0.0] * directions.count
    mean = list(weights)
    length = directions.length(mean)
    if length < max(eps, CANCELLED * math.fsum(map(abs, weights))):
        if directions.count == 2:
            return list(weights)
        raise UnfitValues(
            "weight: the directions of multislerp's sources cancel out, so they have no mean; change a weight"
        )
    mean = scaled(mean, 1.0 / length)
    shares = directions.with_each(mean)
    along = math.fsum(weight * share for weight, share in zip(weights, shares, strict=True))
    tangent = added(list(weights), scaled(mean, -along))
    angle = directions.length(tangent) + eps
    step = math.sin(angle) / angle if angle else 1.0
    point = added(scaled(mean, math.cos(angle)), scaled(tangent, step))
    return directions.of_vectors(point, math.fsum(w * n for w, n in zip(weights, directions.norms, strict=True)))


def karcher(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Karcher mean: the direction with the least sum of squared angles to all sources (arXiv:2603.04972).

    Sources count equally; the length is the mean of all lengths, also of those shorter than `tol`, which have no
    direction; if none has one, the result is 0. At most `max_iter` steps are taken; one shorter than `tol` is the last.
    One source is copied. Opposite directions give that of the first source (in mergekit too, but for rounding).
    """
    own: Karcher = options.own
    tensors = [operand.tensor for operand in operands]
    if len(tensors) == 1:
        blend(tensors, [1.0], 1.0, result, chunk)
        return
    directions = Directions.of(len(tensors), dot_products(tensors, None, chunk))
    factors = [as_float32(factor) for factor in _iterated(directions, own.max_iter, own.tol)]
    blend(tensors, factors, 1.0, result, chunk)


def _iterated(directions: Directions, max_iter: int, tol: float) -> Combination:
    if any(map(math.isnan, directions.norms)):
        return [math.nan] * directions.count
    kept = [norm > tol for norm in directions.norms]
    if not any(kept):
        return [0.0] * directions.count
    each = 1.0 / sum(kept)
    mean = [each * one for one in kept]
    length = directions.length(mean)
    first = [float(index == kept.index(True)) for index in range(directions.count)]
    mean = first if length < tol else scaled(mean, 1.0 / length)
    for _ in range(max_iter):
        step = _tangent(directions, mean, kept, tol)
        length = directions.length(step)
        if length < tol:
            break
        mean = added(scaled(mean, math.cos(length)), scaled(step, math.sin(length) / length))
        norm = directions.length(mean)
        mean = scaled(mean, 1.0 / norm) if norm > tol else mean
    return directions.of_vectors(mean, math.fsum(directions.norms) / directions.count)


def _tangent(directions: Directions, mean: Combination, kept: Sequence[bool], tol: float) -> Combination:
    """The mean of the kept directions as seen from `mean`: each tangent is as long as the angle."""
    each, step = 1.0 / sum(kept), [0.0] * directions.count
    for index, share in enumerate(map(clamped_cosine, directions.with_each(mean))):
        angle = math.acos(share)
        # A direction opposite to the mean has no tangent: every way there is as long.
        if kept[index] and tol <= angle <= math.pi - tol:
            factor = each * angle / math.sin(angle)
            step = added(step, scaled(mean, -factor * share))
            step[index] += factor
    return step


def _sum(tensors: Sequence[Tensor], base: Tensor | None, factors: Sequence[float], result: Result, chunk: int) -> None:
    if base is None:
        blend(tensors, factors, 1.0, result, chunk)
    else:
        blend_differences(tensors, base, factors, result, chunk)
