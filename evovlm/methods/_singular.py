"""Singular vectors and polar factors of matrices in float64, on a CPU or a GPU.

Knows single matrices; no models and no methods. Both come from the eigenvectors of M M^T or M^T M, whichever is
smaller: on a GPU that takes a fraction of the time of an SVD. Float64 makes up for the squared condition number: a
singular value of 1e-6 times the largest is an eigenvalue of 1e-12, far above float64's rounding of about 1e-15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods.options import OwnOptions

# Singular values up to this share of the largest count as 0: their vectors are arbitrary, or made of rounding.
NEGLIGIBLE = 1e-6


class Matrices(OwnOptions):
    """The option that all methods on matrices have."""

    exclude: str = Field(
        default="embed_tokens,lm_head",
        description="tensors whose task vectors are averaged instead: parts of their names, with commas between them",
    )


class Triples(NamedTuple):
    """Left vectors [rows, k], singular values [k] in descending order, and right vectors [columns, k]; float64."""

    left: Tensor
    values: Tensor
    right: Tensor


def deltas_of(base: Tensor, sources: Sequence[Tensor]) -> list[Tensor]:
    """The task vectors, in float64: singular vectors of close values would turn with the rounding to float32."""
    return [source.double() - base.double() for source in sources]


def leading_triples(matrix: Tensor, most: int | None = None, *, above: float = 0.0) -> Triples:
    """The first `most` singular triples of a matrix [rows, columns], or all; none with a negligible value.

    above: values up to this are left out too, for a matrix that may be nothing but rounding. A triple is determined up
    to the signs of its two vectors, which cancel out in every product of the two.
    """
    wide = matrix.double()
    rows, columns = wide.shape
    short = wide if rows <= columns else wide.T
    squares, vectors = torch.linalg.eigh(short @ short.T)  # ascending
    values = squares.clamp_(min=0.0).sqrt_().flip(0)
    kept = int(((values > NEGLIGIBLE * values[:1]) & (values > above)).sum())
    kept = kept if most is None else min(kept, most)
    left = vectors.flip(1)[:, :kept]
    right = (short.T @ left) / values[:kept]
    return Triples(left, values[:kept], right) if rows <= columns else Triples(right, values[:kept], left)


def polar(columns: Tensor) -> Tensor:
    """The polar factor U V^T of a float64 matrix U S V^T [rows, columns], without directions of negligible values.

    It is the nearest matrix with orthonormal columns (or rows, if these are fewer). Where the matrix lacks full rank,
    no direction is made up: the factor is 0 there.
    """
    rows, count = columns.shape
    short = columns.T if count <= rows else columns
    squares, vectors = torch.linalg.eigh(short @ short.T)
    inverse = torch.where(squares > NEGLIGIBLE**2 * squares[-1:], squares, torch.inf).rsqrt()
    root = vectors.mul(inverse).matmul(vectors.T)
    return columns.matmul(root) if count <= rows else root.matmul(columns)


def is_zero(matrix: Tensor) -> bool:
    """Whether all elements are 0, or there are none."""
    return not bool((matrix != 0).any())


def summed(matrices: Sequence[Tensor]) -> Tensor:
    """The sum of matrices of one shape, in float64."""
    total = matrices[0].double()
    for matrix in matrices[1:]:
        total = total + matrix.double()
    return total


def averaged(tensors: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape, in float32."""
    return (summed(tensors) / len(tensors)).float()


def shared(merged: Tensor, sources: int) -> list[Tensor]:
    """A merged task vector as one vector per source, the same for all, so that weights act by their mean."""
    return [merged / sources] * sources
