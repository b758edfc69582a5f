"""Rows or columns of a tensor as vectors of their own: their dot products, and sums with factors for each.

Knows tensors and numbers; no methods and no options. Sums are in fixed point, with a scale for each vector, so no
number depends on the chunk size, on threads or on the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods._blending import MOST_AT_ONCE, differences
from evovlm.methods._fixed_point import PRODUCT_BITS
from evovlm.methods._result import Result
from evovlm.methods.operand import spans

EXACT_BITS = 53  # float64 adds integers below 2**53 without rounding
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Lines:
    """A tensor as a matrix [rows, width] whose rows are the vectors or, with `columns`, whose columns are."""

    rows: int
    width: int
    columns: bool

    @classmethod
    def of(cls, shape: Sequence[int], *, first_axis: bool = False) -> Lines:
        """Vectors along the last axis, or along the first. A tensor of one axis is one vector."""
        if len(shape) < 2:
            return cls(1, math.prod(shape), columns=False)
        rows = shape[0] if first_axis else math.prod(shape[:-1])
        return cls(rows, math.prod(shape) // rows if rows else 0, first_axis)

    @property
    def count(self) -> int:
        """The number of vectors."""
        return self.width if self.columns else self.rows

    @property
    def length(self) -> int:
        """The number of elements of each."""
        return self.rows if self.columns else self.width

    def step(self, chunk: int) -> int:
        """Elements at a time: as many whole rows as fit into `chunk`, at least one."""
        return max(1, min(chunk, MOST_AT_ONCE) // max(1, self.width)) * self.width

    def of_rows(self, numbers: Tensor, start: int, stop: int) -> Tensor:
        """A number per vector, in the shape in which it is combined with elements start ... stop - 1 as rows."""
        if self.columns:
            return numbers[None, :]
        return numbers[start // self.width : stop // self.width, None]


def line_products(
    tensors: Sequence[Tensor], base: Tensor | None, lines: Lines, chunk: int
) -> Mapping[tuple[int, int], Numbers]:
    """Dot products of all pairs of tensors, or of their differences from the base, by vector: float64 [lines.count].

    Differences are in float32. NaN for a vector with a value that is not finite.
    """
    pairs = list(combinations_with_replacement(range(len(tensors)), 2))
    if not lines.count or not lines.length:
        return {pair: np.zeros(lines.count) for pair in pairs}
    largest = _largest(tensors, base, lines, chunk)
    bits = min(PRODUCT_BITS, EXACT_BITS - 1 - math.ceil(math.log2(lines.length)))
    powers = {(left, right): _powers(largest[left], largest[right], bits) for left, right in pairs}
    device = tensors[0].device
    scales = {pair: torch.from_numpy(np.ldexp(1.0, power)).to(device) for pair, power in powers.items()}
    totals = {pair: torch.zeros(lines.count, dtype=torch.float64, device=device) for pair in pairs}
    for start, stop, _, parts in _blocks(tensors, base, lines, chunk):
        for (left, right), total in totals.items():
            products = parts[left].double().mul_(parts[right]).mul_(lines.of_rows(scales[left, right], start, stop))
            if lines.columns:
                total.add_(products.round_().sum(dim=0))
            else:
                total[start // lines.width : stop // lines.width] = products.round_().sum(dim=1)
    return {pair: np.ldexp(total.cpu().numpy(), -powers[pair]) for pair, total in totals.items()}


def blend_lines(
    tensors: Sequence[Tensor],
    base: Tensor | None,
    lines: Lines,
    factors: Sequence[Sequence[float]],
    result: Result,
    chunk: int,
) -> None:
    """Write the sum of factor x tensor or, with a base, base + the sum of factor x difference from it.

    factors: of each tensor, [lines.count], rounded to float32.
    """
    numbers = [torch.tensor(own, dtype=torch.float32, device=tensors[0].device) for own in factors]
    for start, stop, root, parts in _blocks(tensors, base, lines, chunk):
        total = parts[0].mul_(lines.of_rows(numbers[0], start, stop))
        for part, own in zip(parts[1:], numbers[1:], strict=True):
            total.add_(part.mul_(lines.of_rows(own, start, stop)))
        if base is not None:
            total.add_(root)
        values = total.reshape(-1)
        for low, high in spans(stop - start, chunk):
            result.write(start + low, start + high, values[low:high])


def _blocks(
    tensors: Sequence[Tensor], base: Tensor | None, lines: Lines, chunk: int
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """As `differences`, in whole rows: base [rows, width], parts [tensors, rows, width]."""
    for start, stop, root, parts in differences(tensors, base, max(1, lines.step(chunk))):
        yield start, stop, root.view(-1, lines.width), parts.reshape(len(tensors), -1, lines.width)


def _largest(tensors: Sequence[Tensor], base: Tensor | None, lines: Lines, chunk: int) -> Numbers:
    """The largest magnitude of each vector, float64 [tensors, lines.count]."""
    found = torch.zeros(len(tensors), lines.count, device=tensors[0].device)
    for start, stop, _, parts in _blocks(tensors, base, lines, chunk):
        if lines.columns:
            found = torch.maximum(found, parts.abs().amax(dim=1))
        else:
            found[:, start // lines.width : stop // lines.width] = parts.abs().amax(dim=2)
    return found.double().cpu().numpy()


def _powers(left: Numbers, right: Numbers, bits: int) -> NDArray[np.int64]:
    """By vector, the power of two that puts its largest product just under 2**bits; 0 if it is 0 or not finite."""
    bounds = left * right
    usable = np.isfinite(bounds) & (bounds > 0)
    powers = bits - np.frexp(np.where(usable, bounds, 1.0))[1]
    return np.where(usable, powers, 0).astype(np.int64)
