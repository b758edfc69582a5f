"""Iso-C and Iso-CTS: merged task vectors with equal singular values (arXiv:2502.04959).

Knows task vectors of one tensor; no models, weights or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods._registry import prepared_method
from evovlm.methods._singular import (
    NEGLIGIBLE,
    Matrices,
    Triples,
    averaged,
    deltas_of,
    leading_triples,
    polar,
    shared,
    summed,
)


class IsoCtsOptions(Matrices):
    """Options of `iso_cts`."""

    common_share: float = Field(
        default=0.8, ge=0.0, le=1.0, description="share of the directions that the sum of task vectors decides"
    )


def iso_c(deltas: Sequence[Tensor]) -> Tensor:
    """The sum of the task vectors with all singular values set to their mean (algorithm 1), in float32.

    The mean is over all min(rows, columns) values, while directions with a value of at most 1e-6 times the largest are
    left out, because they are arbitrary. Tensors that are not matrices: their mean.
    """
    if deltas[0].ndim != 2:
        return averaged(deltas)
    total = summed(deltas)
    left, values, right = leading_triples(total)
    return (left @ right.T * (values.sum() / min(total.shape))).float()


def iso_cts(deltas: Sequence[Tensor], common_share: float = 0.8) -> Tensor:
    """Iso-CTS (algorithm 2), in float32: the common directions of the sum, and directions of each task besides.

    With r = min(rows, columns) and T task vectors, s = round((r - floor(common_share x r)) / T) directions are of each
    task and r - s T of the sum. A task's directions are the leading ones of its task vector without what lies in the
    first floor(common_share x r) left directions of the sum. All directions are made orthonormal by a polar factor,
    and get the mean of their singular values. Values up to 1e-6 times a task vector's norm are negligible in what is
    left of it. Other negligible values and other tensors: as in `iso_c`; a task vector of 0 has no directions, and
    counts in T.
    """
    if deltas[0].ndim != 2:
        return averaged(deltas)
    total, count = summed(deltas), len(deltas)
    rank = min(total.shape)
    first = int(round(common_share * rank, 6))
    own = round((rank - first) / count)  # half to even, as in the authors' code
    left, values, right = leading_triples(total)
    common = max(rank - own * count, 0)
    found = [Triples(left[:, :common], values[:common], right[:, :common])]
    outside = left[:, :first]
    for delta in deltas:
        wide = delta.double()
        rest = wide - outside @ (outside.T @ wide)
        found.append(leading_triples(rest, own, above=NEGLIGIBLE * float(torch.linalg.norm(wide))))
    left = polar(torch.cat([one.left for one in found], dim=1))
    right = polar(torch.cat([one.right for one in found], dim=1))
    mean = torch.cat([one.values for one in found]).sum() / rank
    return (left @ right.T * mean).float()


@prepared_method(
    "iso_c",
    one_vector=True,
    options=Matrices,
    source="arXiv:2502.04959",
    cost="set-up: an eigendecomposition for each matrix; then one read per candidate",
)
def prepare_iso_c(base: Tensor, sources: Sequence[Tensor], options: Matrices) -> list[Tensor]:
    """Sum the task vectors, and set all singular values to their mean; weights act by their mean."""
    return shared(iso_c(deltas_of(base, sources)), len(sources))


@prepared_method(
    "iso_cts",
    one_vector=True,
    options=IsoCtsOptions,
    source="arXiv:2502.04959",
    cost="set-up: an eigendecomposition per source and three more, for each matrix; then one read per candidate",
)
def prepare_iso_cts(base: Tensor, sources: Sequence[Tensor], options: IsoCtsOptions) -> list[Tensor]:
    """Like iso_c, with singular vectors of the sum and of each task vector; weights act by their mean."""
    return shared(iso_cts(deltas_of(base, sources), options.common_share), len(sources))
