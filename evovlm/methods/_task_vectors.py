"""Methods that sum task vectors: drop, rescale, weight, elect signs, sum, and add to the base.

Knows operands and options. Products are rounded to float32 and added in source order, and no multiplication is fused
with an addition, so that other devices can reproduce the result bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.methods._drop import element_factors, keep_mask, rescale_factor
from evovlm.methods._result import Result, as_float32
from evovlm.methods._scratch_buffers import SCRATCH
from evovlm.methods.operand import Operand, TaskVector, shortened, spans
from evovlm.methods.options import Drop, MergeOptions

# Without sign election, a sum of weights below this in magnitude counts as 1 (as in mergekit).
LEAST_DIVISOR = 1e-8


@dataclass(frozen=True)
class Term:
    """One task vector, ready to be added: which elements are kept, and the factor for them."""

    vector: TaskVector
    mask: Tensor | None  # uint8 [count], 1 where kept; or float32 [count], an element's own factor, 0 where dropped
    factor: float
    weight: float

    def write(self, start: int, stop: int, base: Tensor, scratch: Tensor, out: Tensor) -> None:
        """Write V of elements start ... stop - 1 to `out`. base: these elements of the base, in float32."""
        delta = self.vector.read(start, stop, out, base, base_read=True)
        if self.mask is not None:
            # Multiply instead of selecting: NaN and infinity stay visible even in dropped elements.
            delta = torch.mul(delta, scratch.copy_(self.mask[start:stop]), out=out)
        torch.mul(delta, self.factor, out=out)


@dataclass(frozen=True)
class TaskVectorSum:
    """The rule of these methods. drop: which elements are dropped; None keeps all. elect: elect signs (TIES).

    delta = float32(x rounded to base's dtype) - float32(base); V = (delta x mask) x float32(weight x rescale), where
    `rescale: per_element` has factors in place of the mask and 1 in place of rescale;
    with election, V is dropped unless it has the sign of the sum of all V (0 counts as positive);
    tau = sum of V; with normalize, tau / sum of the weights (of the V kept); result = lambda x tau + base.

    A V of 0 has no sign: with election, a source that was dropped there, equals the base or has weight 0 does not
    count. A sum of weights of exactly 0 counts as 1 (without election, one below LEAST_DIVISOR), so that weights that
    are all 0 give the base. All of this is as in mergekit.
    """

    drop: Drop | None = None
    elect: bool = False

    def __call__(
        self, base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
    ) -> None:
        """Merge one tensor, chunk by chunk."""
        assert base is not None
        _add_to_base(self, base, operands, options, result, chunk)


def _add_to_base(
    rule: TaskVectorSum,
    base: Tensor,
    operands: Sequence[Operand],
    options: MergeOptions,
    result: Result,
    chunk: int,
) -> None:
    flat = base.detach().reshape(-1)
    terms = [_term(flat, operand, rule.drop, options, chunk) for operand in operands]
    add_up = _elect if rule.elect else _add
    divisor = sum_of_weights([term.weight for term in terms]) if options.normalize and not rule.elect else 1.0
    rows = SCRATCH.take("terms", len(terms) + 4, min(chunk, flat.numel())).unbind()
    for start, stop in spans(flat.numel(), chunk):
        parts = shortened(rows, stop - start)
        # Adding 0 turns -0 into 0, so that no zero in the result has a sign that depends on the order of a sum.
        base32, scratch = parts[0].copy_(flat[start:stop]).add_(0.0), parts[1:4]
        for term, part in zip(terms, parts[4:], strict=True):
            term.write(start, stop, base32, scratch[0], part)
        tau = add_up(terms, parts[4:], scratch, options.normalize)
        if divisor != 1.0:
            tau.div_(divisor)
        if options.lambda_ != 1.0:
            tau.mul_(as_float32(options.lambda_))
        result.write(start, stop, tau.add_(base32))


def _term(base: Tensor, operand: Operand, drop: Drop | None, options: MergeOptions, chunk: int) -> Term:
    vector = TaskVector(base, operand, chunk)
    if options.rescale == "per_element":
        factors = element_factors(vector, options)
        own = None if factors is None else torch.from_numpy(factors)
        return Term(vector, own, as_float32(operand.weight), as_float32(operand.weight))
    mask = keep_mask(vector, drop, options)
    factor = as_float32(operand.weight * rescale_factor(vector, mask, drop, options))
    flags = None if mask is None else torch.from_numpy(mask).view(torch.uint8)
    return Term(vector, flags, factor, as_float32(operand.weight))


def sum_of_weights(weights: Sequence[float]) -> float:
    """What a sum of task vectors is divided by with `normalize`: the sum of its float32 weights, or 1 if that is 0."""
    total = as_float32(sum(weights))
    return total if abs(total) >= LEAST_DIVISOR else 1.0


def _add(terms: Sequence[Term], parts: Sequence[Tensor], scratch: Sequence[Tensor], normalize: bool) -> Tensor:
    """The sum of all V in source order."""
    tau = parts[0]
    for part in parts[1:]:
        tau.add_(part)
    return tau


def _elect(terms: Sequence[Term], parts: Sequence[Tensor], scratch: Sequence[Tensor], normalize: bool) -> Tensor:
    """The sum of the V that have the sign of the whole sum, elected by mass and not by vote (TIES).

    parts: V, float32 [n] per source, overwritten. scratch: three buffers, float32 [n].
    """
    sign, tau, flags = scratch[0], scratch[1], scratch[2]
    tau.copy_(parts[0])
    for part in parts[1:]:
        tau.add_(part)
    torch.ge(tau, 0.0, out=sign).mul_(2.0).sub_(1.0)
    for index, part in enumerate(parts):
        part.mul_(sign).relu_()  # zero where the signs differ; multiplying by +-1 is exact
        tau = tau.copy_(part) if index == 0 else tau.add_(part)
    tau.mul_(sign)
    if normalize:
        divisor = torch.gt(parts[0], 0.0, out=sign).mul_(terms[0].weight)
        for term, part in zip(terms[1:], parts[1:], strict=True):
            divisor.add_(torch.gt(part, 0.0, out=flags).mul_(term.weight))
        tau.div_(divisor.add_(torch.eq(divisor, 0.0, out=flags)))
    return tau
