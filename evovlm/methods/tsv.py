"""TSV-M: task vectors whose leading singular vectors are made orthogonal to each other (arXiv:2412.00081).

Knows task vectors of one tensor; no models, weights or files. The merged matrix of the paper is a sum over singular
triples, each of which belongs to one source, so that it splits into one matrix per source: the terms. They depend on no
weight. With weights, a merge is the base plus the weighted sum of the terms: for weights other than 0 the same as
TSV-M of task vectors that were multiplied by their weights, since the singular vectors do not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods._registry import prepared_method
from evovlm.methods._singular import Matrices, deltas_of, leading_triples, polar


class TsvOptions(Matrices):
    """Options of `tsv_m`."""

    rank_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of each matrix's singular triples to keep; 0: 1 / sources"
    )


def tsv_terms(deltas: Sequence[Tensor], rank_share: float = 0.0) -> list[Tensor]:
    """One term per task vector, of its shape, in float32; their sum is the paper's merged task vector.

    From each matrix the first floor(rank_share x r) singular triples are kept, r being its smaller dimension and
    `rank_share` 1 / T if it is 0, for T task vectors (eq. 5). U, V are the kept left and right vectors side by side;
    with their polar factors P, Q a term is the sum of p s q^T over the triples of its task vector (eq. 8).
    Tensors that are not matrices are averaged: each term is delta / T.

    Triples with a value of at most 1e-6 times the matrix's largest are left out, because their vectors are arbitrary.
    A task vector of 0 has the term 0, and counts in T.
    """
    count = len(deltas)
    if deltas[0].ndim != 2:
        return [(delta.double() / count).float() for delta in deltas]
    rank = min(deltas[0].shape)
    # Rounded first, so that floor(6 x (1/3)) is 2, whatever the rounding of 1/3.
    kept = int(round(rank_share * rank, 6)) if rank_share else rank // count
    found = [leading_triples(delta, kept) for delta in deltas]
    left = polar(torch.cat([one.left for one in found], dim=1))
    right = polar(torch.cat([one.right for one in found], dim=1))
    terms, start = [], 0
    for one in found:
        stop = start + len(one.values)
        terms.append(((left[:, start:stop] * one.values) @ right[:, start:stop].T).float())
        start = stop
    return terms


@prepared_method(
    "tsv_m",
    options=TsvOptions,
    source="arXiv:2412.00081",
    cost="set-up: an eigendecomposition per source and two more, for each matrix; then one read per candidate",
)
def tsv_m(base: Tensor, sources: Sequence[Tensor], options: TsvOptions) -> list[Tensor]:
    """Keep the leading singular vectors of each task vector, made orthogonal to those of the others."""
    return tsv_terms(deltas_of(base, sources), options.rank_share)
