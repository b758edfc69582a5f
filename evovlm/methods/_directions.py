"""Directions as combinations of given vectors: everything follows from the vectors' dot products.

Knows numbers; no tensors and no methods. A combination is one coefficient per vector, so means and tangents of vectors
with billions of elements are sums of a few numbers in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evovlm.methods._blending import Products

Combination = list[float]  # a coefficient per vector


@dataclass(frozen=True)
class Directions:
    """Vectors by their norms and dot products, each divided by a length of its own. units[i][j]: u_i . u_j."""

    norms: Sequence[float]
    lengths: Sequence[float]
    units: Sequence[Sequence[float]]

    @classmethod
    def of(cls, count: int, products: Products, eps: float = 0.0) -> Directions:
        """u = v / (|v| + eps) for each vector v; 0 for a vector that is 0."""
        norms = [math.sqrt(products[index, index]) for index in range(count)]
        lengths = [norm + eps if norm else 1.0 for norm in norms]
        units = [[products[min(i, j), max(i, j)] / lengths[i] / lengths[j] for j in range(count)] for i in range(count)]
        return cls(norms, lengths, units)

    @property
    def count(self) -> int:
        """The number of vectors."""
        return len(self.norms)

    def with_each(self, point: Combination) -> list[float]:
        """The dot product of a combination of the u with each u."""
        return [math.fsum(a * u for a, u in zip(point, row, strict=True)) for row in self.units]

    def length(self, point: Combination) -> float:
        """The norm of a combination of the u; rounding may not make its square negative."""
        square = math.fsum(a * b for a, b in zip(point, self.with_each(point), strict=True))
        return math.sqrt(square) if not square <= 0.0 else 0.0

    def of_vectors(self, point: Combination, factor: float) -> Combination:
        """A combination of the u, times a factor, as a combination of the vectors themselves."""
        return [factor * a / length for a, length in zip(point, self.lengths, strict=True)]


def scaled(point: Combination, factor: float) -> Combination:
    """A combination times a factor."""
    return [a * factor for a in point]


def added(left: Combination, right: Combination) -> Combination:
    """The sum of two combinations."""
    return [a + b for a, b in zip(left, right, strict=True)]
