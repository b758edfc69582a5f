"""Methods that choose, element by element, which task vectors count: sce, ram, ramplus_tl; and nearswap.

Knows operands and options. Weights of sources are unused. What these methods need to know of a whole tensor (counts,
sums of squares, a threshold) is exact, so no number depends on the chunk size, on threads or on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods._blending import differences
from evovlm.methods._fixed_point import PRODUCT_BITS, exponent, fixed_dot, largest_magnitude, largest_of
from evovlm.methods._order_statistics import values_at
from evovlm.methods._result import Result, as_float32
from evovlm.methods.operand import Operand
from evovlm.methods.options import MergeOptions, OwnOptions

# mergekit's conventions: sums below this count as 0 (then sources weigh the same), or as this (as divisors).
LEAST = 1e-6


class Nearswap(OwnOptions):
    """How far nearswap moves."""

    t: float = Field(default=1e-4, description="the most that an element moves (mergekit requires it)")


class Sce(OwnOptions):
    """What sce selects."""

    select_topk: float = Field(default=1.0, description="the share of elements, those that vary most, that is kept")


class Ram(OwnOptions):
    """What ram calls active."""

    threshold: float = Field(
        default=1e-5, description="the magnitude above which an element of a task vector is active"
    )


class RamPlus(Ram):
    """What ramplus_tl calls active, and how it scales."""

    r: float = Field(default=0.1, description="how much the elements of one source alone are scaled up per overlap")
    alpha: float = Field(default=0.2, ge=0.0, description="the most overlap that counts")


def nearswap(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Move each element of the base towards the source by t at most; where they are closer than that, take the source.

    q = clip(t / max(|base - x|, 1e-6), 0, 1); result = q x + (1 - q) base; from the model card of
    hf.co/alchemonaut/QuartetAnemoi-70B-t0.0001.
    With t of 0 or less the result is the base.
    """
    assert base is not None
    own: Nearswap = options.own
    flat = operands[0].tensor.detach().reshape(-1)
    for start, stop, root, parts in differences([operands[0].tensor], base, chunk):
        delta = parts[0]
        share = (
            torch.full_like(delta, as_float32(own.t)).div_(delta.abs_().clamp_(min=as_float32(LEAST))).clamp_(0.0, 1.0)
        )
        moved = delta.copy_(flat[start:stop]).mul_(share)
        result.write(start, stop, root.mul_(share.neg_().add_(1.0)).add_(moved))


def ram(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Average the task vectors that are active, element by element (RAM, arXiv:2601.13572).

    An element of a task vector is active if its magnitude is above `threshold`. Where none is, the base is kept.
    """
    assert base is not None
    own: Ram = options.own
    _add_active([1.0] * len(operands), base, operands, result, chunk, own.threshold)


def ramplus_tl(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """As `ram`, but elements that are active in one source alone are scaled up (RAM+, arXiv:2601.13572).

    The factor of a source is 1 + r clip(rho, 0, alpha), where rho is how many of its active elements are active in
    another source too, divided by how many are not. As in mergekit it is computed for each tensor (in the paper, for
    the whole model).
    """
    assert base is not None
    own: RamPlus = options.own
    shared, alone = [0] * len(operands), [0] * len(operands)
    for *_, parts in differences(_tensors(operands), base, chunk):
        active = parts.abs().gt_(as_float32(own.threshold))
        several = active.sum(dim=0) >= 2
        for index, mine in enumerate(active):
            both = int(torch.count_nonzero(mine * several))
            shared[index] += both
            alone[index] += int(torch.count_nonzero(mine)) - both
    factors = []
    for both, only in zip(shared, alone, strict=True):
        divisor = max(float(only), own.threshold)
        rho = as_float32(both / divisor) if divisor > 0.0 else math.inf
        factors.append(as_float32(1.0 + as_float32(own.r * min(rho, own.alpha))))
    _add_active(factors, base, operands, result, chunk, own.threshold)


def _add_active(
    factors: Sequence[float],
    base: Tensor,
    operands: Sequence[Operand],
    result: Result,
    chunk: int,
    threshold: float,
) -> None:
    """base + the mean of the active elements; one that is active in one source alone is multiplied by its factor."""
    for start, stop, root, parts in differences(_tensors(operands), base, chunk):
        active = parts.abs().gt_(as_float32(threshold))
        # Multiply instead of selecting: NaN stays visible even where it is not active.
        parts.mul_(active)
        count = active.sum(dim=0)
        several = (count >= 2).float()
        total, scaled = torch.zeros_like(root), torch.zeros_like(root)
        for part, factor in zip(parts, factors, strict=True):
            total.add_(part)
            scaled.add_(part.mul_(factor))
        mean = total.div_(count.clamp_(min=1.0)).mul_(several)
        result.write(start, stop, mean.add_(scaled.mul_(several.neg_().add_(1.0))).add_(root))


def sce(base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int) -> None:
    """Select, calculate, erase (FuseChat, arXiv:2408.07990): task vectors weighted by their mean square.

    Keeps the share `select_topk` of the elements (among those that vary) that vary most between the sources, the first
    of equals; weighs each source by the mean square of what is kept (equally if these sum to less than 1e-6, which real
    fine-tunes do); drops elements whose sign is not that of the sum over the sources; and adds the weighted mean of the
    rest. With `select_topk` below 1, one source, or equal ones, give the base.
    """
    assert base is not None
    tensors, share = _tensors(operands), options.own.select_topk
    keep = _varying_most(tensors, base, chunk, share) if share < 1.0 else None

    def kept(start: int, stop: int, parts: Tensor) -> Tensor:
        return parts if keep is None else parts.mul_(keep[start:stop])

    weights = _shares(tensors, base, chunk, kept)
    for start, stop, root, parts in differences(tensors, base, chunk):
        kept(start, stop, parts)
        total = torch.zeros_like(root)
        for part in parts:
            total.add_(part)
        sign = total.ge(0.0).float().mul_(2.0).sub_(1.0)
        total.zero_()
        divisor = torch.zeros_like(root)
        for part, weight in zip(parts, weights, strict=True):
            part.mul_(sign)
            agrees = part.gt(0.0).float().mul_(weight)
            divisor.add_(agrees)
            total.add_(part.mul_(agrees))
        moved = total.mul_(sign).div_(divisor.clamp_(min=as_float32(LEAST)))
        result.write(start, stop, moved.add_(root))


def _tensors(operands: Sequence[Operand]) -> list[Tensor]:
    return [operand.tensor for operand in operands]


def _varying_most(tensors: Sequence[Tensor], base: Tensor, chunk: int, share: float) -> Tensor:
    """Which elements of the task vectors are selected: bool [elements]. Needs four more bytes per element meanwhile."""
    count = base.numel()
    variance = torch.empty(count, device=base.device)
    for start, stop, _, parts in differences(tensors, base, chunk):
        variance[start:stop] = _variance(parts)
    varying = int(torch.count_nonzero(variance))
    wanted = min(varying, math.floor(as_float32(as_float32(share) * varying)))
    if wanted <= 0:
        return torch.zeros(count, dtype=torch.bool, device=base.device)
    (edge,) = values_at(variance, [count - wanted])
    above, equal = variance > edge, variance == edge
    lacking = wanted - int(above.sum())
    if lacking < int(equal.sum()):
        equal &= equal.cumsum(0) <= lacking
    return above | equal


def _variance(parts: Tensor) -> Tensor:
    """The variance over the sources, by Welford's recurrence: exactly 0 where all are equal. parts: [sources, n]."""
    mean, squares = parts[0].clone(), torch.zeros_like(parts[0])
    for number, part in enumerate(parts[1:], 2):
        step = part - mean
        mean.add_(step * as_float32(1.0 / number))
        squares.add_(step.mul_(part - mean))
    return squares.mul_(as_float32(1.0 / len(parts)))


def _shares(
    tensors: Sequence[Tensor], base: Tensor, chunk: int, kept: Callable[[int, int, Tensor], Tensor]
) -> list[float]:
    """The sources' weights: mean squares of what is kept of their task vectors, divided by their sum, in float32."""
    found = [
        [largest_magnitude(part) for part in kept(start, stop, parts)]
        for start, stop, _, parts in differences(tensors, base, chunk)
    ]
    largest = [largest_of(column) for column in zip(*found, strict=True)]
    if not largest:
        return [0.0] * len(tensors)  # empty tensors
    if not all(map(math.isfinite, largest)):
        return [math.nan] * len(tensors)
    totals = [0] * len(tensors)
    for start, stop, _, parts in differences(tensors, base, chunk):
        for index, part in enumerate(kept(start, stop, parts)):
            totals[index] += fixed_dot(part, part, largest[index] ** 2)
    squares = [
        math.ldexp(total, -exponent(most**2, PRODUCT_BITS)) / base.numel()
        for total, most in zip(totals, largest, strict=True)
    ]
    whole = math.fsum(squares)
    if whole < LEAST:
        return [as_float32(1.0 / len(tensors))] * len(tensors)
    return [as_float32(square / whole) for square in squares]
