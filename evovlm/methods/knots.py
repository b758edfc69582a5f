"""KnOTS-TIES: task vectors written in a common basis, trimmed and sign-elected there (arXiv:2410.19735).

Knows task vectors of one tensor; no models, weights or files. Here each tensor is trimmed by itself, while the authors
trim all layers of a model together; with `keep=1`, their setting for Llama-3-8B, nothing is trimmed and both are the
same, except where an element of the sum is exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods._registry import prepared_method
from evovlm.methods._singular import Matrices, averaged, deltas_of, leading_triples, shared

NEGLIGIBLE_VALUE = 1e-5  # singular values up to this are left out, as in the authors' code


class KnotsOptions(Matrices):
    """Options of `knots_ties`."""

    keep: float = Field(default=1.0, ge=0.0, le=1.0, description="share of each tensor's elements that is kept")


def knots_ties(deltas: Sequence[Tensor], keep: float = 1.0) -> Tensor:
    """U R with R the TIES merge of R_i = U^T delta_i (equations 5 and 6), in float32.

    U [rows, k]: the left singular vectors of the task vectors side by side, with values above 1e-5. TIES: in each R_i
    only the `keep` share of largest magnitudes is kept; an element of R is the mean of those kept elements that have
    the sign of their sum. Where that sum is 0, it has the sign of the sum of all signs. Tensors that are not matrices:
    the mean of the task vectors.

    The method is made for LoRA, where U has few columns. For task vectors of full rank, U is a rotation of the rows.
    """
    if deltas[0].ndim != 2:
        return averaged(deltas)
    left = leading_triples(torch.cat([delta.double() for delta in deltas], dim=1), above=NEGLIGIBLE_VALUE).left
    parts = torch.stack([_trimmed(left.T @ delta.double(), keep) for delta in deltas])
    signs = parts.sum(dim=0).sign()
    majority = signs.sum().sign()
    signs = torch.where(signs == 0, majority if majority != 0 else torch.ones_like(majority), signs)
    agrees = parts * signs > 0
    merged = (parts * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
    return (left @ merged).float()


def _trimmed(part: Tensor, keep: float) -> Tensor:
    """The elements not smaller in magnitude than the (N - floor(keep x N))-th smallest; 0 elsewhere."""
    count = part.numel()
    dropped = count - int(round(keep * count, 6))
    if dropped <= 0 or count == 0:
        return part
    sizes = part.abs()
    edge = sizes.flatten().sort().values[dropped - 1]
    return torch.where(sizes >= edge, part, torch.zeros_like(part))


@prepared_method(
    "knots_ties",
    one_vector=True,
    options=KnotsOptions,
    source="arXiv:2410.19735",
    cost="set-up: an eigendecomposition for each matrix; then one read per candidate",
)
def prepare_knots_ties(base: Tensor, sources: Sequence[Tensor], options: KnotsOptions) -> list[Tensor]:
    """Merge with TIES in a basis that all task vectors share, tensor by tensor; weights act by their mean."""
    return shared(knots_ties(deltas_of(base, sources), options.keep), len(sources))
