"""Polar factors and leading singular subspaces by products and Cholesky factors of matrices: what a GPU is fast at.

Knows single float64 matrices; no methods. Each result is checked. Where the check fails (deficient rank, singular
values that lie too close to each other), nothing is returned, and the caller takes the eigenvectors instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CONVERGED = 1e-8  # the most that an element of X^T X may differ from the identity's
TALL = 1.25  # rows per column from which on R of X = Q R is iterated on instead of X
POWER_STEPS = 50
MARGIN = 1.05  # a norm by power iteration is a few percent too small at worst
# The least distance of two neighbours, among values between -1 and 1, that float32 tells apart for certain.
APART = 1e-5
CENTRINGS = 6
LOWEST = 1e-10  # a split at a smaller share of the eigenvalues' sum would be made of rounding
FAR = 0.8  # of values between -1 and 1: beyond it, neighbours lie closer together than near 0


def polar_by_products(matrix: Tensor, negligible: float) -> Tensor | None:
    """The polar factor of a float64 matrix; None if a singular value is at most `negligible` times the largest.

    QDWH (Nakatsukasa, Bai and Gygi, 2010): five steps of Halley's iteration with weights for the smallest possible
    value, each with one Cholesky factor.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    rows, count = tall.shape
    if count == 0:
        return None
    square, across = tall, None
    if rows > TALL * count:
        parts = _qr(tall)
        if parts is None:
            return None
        across, square = parts
    largest = norm(square)
    if not largest > 0 or not math.isfinite(largest):
        return None
    found = _iterated(square / (MARGIN * largest), negligible / MARGIN)
    if found is None or not _is_definite(found.T @ square, negligible * largest):
        return None
    if across is not None:
        found = across @ found
    if not _is_orthonormal(found):
        return None
    return found if tall is matrix else found.T


def leading_by_products(matrix: Tensor, count: int, least: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """Left basis, core and right basis of the first `count` triples of a float64 matrix; None if that may be wrong.

    They are U R, R^T S R and V R with an arbitrary orthogonal R. least: the singular values must be larger. The
    projector on the subspace is half of the identity plus the sign of (G - m) / (G + m), G being the smaller Gram
    matrix and m between its `count`-th eigenvalue and the next.
    """
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = short @ short.T
    split = _split(gram, count, least)
    centred = None if split is None else _centred(gram, split.middle)
    if split is None or centred is None:
        return None
    sign = _iterated(centred, split.gap)
    if sign is None or not _is_orthonormal(sign):
        return None
    projector = sign.add(torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).div_(2)
    if abs(float(projector.trace()) - count) > 1e-3:
        return None
    own = _basis(projector, count)
    if own is None:
        return None
    image = short.T @ own
    other = polar_by_products(image, 1e-6)
    if other is None:
        return None
    core = image.T @ other
    return (own, core, other) if short is matrix else (other, core.T, own)


def norm(matrix: Tensor) -> float:
    """The largest singular value by power iteration, at most a few percent too small; 0 for a matrix of zeros."""
    vector = torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector = vector.to(matrix.device, matrix.dtype)
    for _ in range(POWER_STEPS):
        vector = matrix.T @ (matrix @ vector)
        vector = vector / torch.linalg.vector_norm(vector).clamp(min=1e-300)
    return float(torch.linalg.vector_norm(matrix @ vector))


class _Split(NamedTuple):
    """A number between two neighbouring eigenvalues of a Gram matrix, and the least |x - m| / (x + m) of all."""

    middle: float
    gap: float


def _split(gram: Tensor, count: int, least: float) -> _Split | None:
    """Where the first `count` eigenvalues end, if all of them are larger than `least` squared.

    Eigenvalues of (G - m) / (G + m) lie between -1 and 1, and those near m far from each other whatever the largest is,
    so that float32 is enough to find them.
    """
    if not 0 < count < len(gram):
        return None
    whole = float(gram.trace())
    middle, lowest = whole / len(gram), max(least**2, LOWEST * whole)
    for _ in range(CENTRINGS):
        if not middle > lowest or not math.isfinite(middle):
            return None
        centred = _centred(gram, middle)
        if centred is None:
            return None
        values = torch.linalg.eigvalsh(centred.float()).double()
        below, above = float(values[-count - 1]), float(values[-count])
        inside = min(max((below + above) / 2, -0.999), 0.999)
        middle *= (1 + inside) / (1 - inside)
        if abs(inside) < FAR:
            half = (above - below) / 2 / (1 - inside**2)
            sure = above - below > APART and middle > lowest
            return _Split(middle, 0.8 * half) if sure else None
    return None


def _centred(gram: Tensor, middle: float) -> Tensor | None:
    """(G - m) / (G + m) of a Gram matrix, symmetric; None if rounding is larger than m."""
    unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    lower, failed = torch.linalg.cholesky_ex(gram / middle + unit)
    return None if int(failed) else unit - torch.cholesky_inverse(lower) * 2


def _weights(least: float) -> Iterator[tuple[float, float, float]]:
    """Halley's weights (a, b, c) for each step until the least singular value has become 1."""
    while 1 - least > 1e-12:
        square = least * least
        inner = (4 * (1 - square) / square**2) ** (1 / 3)
        root = math.sqrt(1 + inner)
        a = root + math.sqrt(8 - 4 * inner + 8 * (2 - square) / (square * root)) / 2
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        yield a, b, c
        least = min(1.0, least * (a + b * square) / (1 + c * square))


def _iterated(start: Tensor, least: float) -> Tensor | None:
    """The polar factor of a matrix with singular values between `least` and 1; None if a step fails."""
    found = start
    unit = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
    for a, b, c in _weights(least):
        lower, failed = torch.linalg.cholesky_ex(torch.addmm(unit, found.T, found, alpha=c))
        if int(failed):
            return None
        solved = torch.cholesky_solve(found.T, lower).T
        found = found * (b / c) + solved * (a - b / c)
    # One step of Newton and Schulz takes away what rounding in ill-conditioned first steps has left.
    return found * 1.5 - found @ (found.T @ found) * 0.5


def _basis(projector: Tensor, count: int) -> Tensor | None:
    """An orthonormal basis [n, count] of what an orthogonal projector leaves."""
    drawn = torch.randn(len(projector), count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = _qr(projector @ drawn.to(projector.device))
    return None if found is None or not _is_orthonormal(found[0]) else found[0]


def _qr(tall: Tensor) -> tuple[Tensor, Tensor] | None:
    """Q and R by two Cholesky factors, because the first Q is only nearly orthonormal; None if one fails."""
    whole = torch.eye(tall.shape[1], dtype=tall.dtype, device=tall.device)
    for _ in range(2):
        root, failed = torch.linalg.cholesky_ex(tall.T @ tall, upper=True)
        if int(failed):
            return None
        tall = torch.linalg.solve_triangular(root, tall, upper=True, left=False)
        whole = root @ whole
    return tall, whole


def _is_orthonormal(columns: Tensor) -> bool:
    product = columns.T @ columns
    product.diagonal().sub_(1)
    return bool(product.abs().max() < CONVERGED)  # False if there is a NaN


def _is_definite(symmetric: Tensor, least: float) -> bool:
    """Whether all eigenvalues are larger than `least`."""
    shifted = (symmetric + symmetric.T) / 2
    shifted.diagonal().sub_(least)
    return int(torch.linalg.cholesky_ex(shifted).info) == 0
