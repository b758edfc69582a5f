"""DARE-TIES in plain torch, used only as the reference for the fused merger. Knows tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def torch_merge(
    base: Tensor, sources: Sequence[Tensor], weights: Sequence[float], densities: Sequence[float], out: Tensor
) -> None:
    """Write to `out`: base + the sum of the randomly dropped task vectors that agree in sign, with l1 rescaling."""
    origin = base.float()
    terms = []
    for source, weight, density in zip(sources, weights, densities, strict=True):
        delta = source.float() - origin
        kept = delta * (torch.rand_like(delta) < density)
        terms.append(kept * (weight * delta.abs().sum() / kept.abs().sum()))
    stacked = torch.stack(terms)
    sign = torch.where(stacked.sum(dim=0) >= 0, 1.0, -1.0)
    tau = torch.where(stacked.sign() == sign, stacked, 0.0).sum(dim=0)
    out.copy_(origin + tau)
