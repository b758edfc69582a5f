"""arcee_fusion: take from the source the elements that matter most, and keep the base's others (Arcee AI).

Knows operands and options. The only method here whose masks follow from exponentials and logarithms, which other
devices round otherwise: near the threshold, a GPU may choose other elements than a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from evovlm.methods._order_statistics import values_at
from evovlm.methods._result import Result, as_float32
from evovlm.methods.operand import Operand, spans
from evovlm.methods.options import MergeOptions

# Added to each probability. A row is processed whole; rows are grouped so that torch does not split the work among its
# own threads, which would change sums.
LEAST_PROBABILITY = 1e-8
AT_ONCE = 1 << 14
DEVICE_AT_ONCE = 1 << 24
SPREAD = 1.5  # interquartile ranges between the median and the threshold


def arcee_fusion(
    base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
) -> None:
    """Take an element from the source if its importance is at least the median + 1.5 interquartile ranges.

    The importance is |x - base| times its row's divergence: Kullback-Leibler, between the softmax of the source's row
    and of the base's. A row is the last axis; a tensor of one axis is one row. Quartiles are the elements at index
    floor(q (N - 1)) of all N in ascending order; mergekit draws a million elements instead of sorting more than that,
    so there its result depends on the random seed, and differs from this one near the threshold.
    """
    assert base is not None
    x, z = operands[0].tensor.detach(), base.detach()
    importance = torch.empty(z.numel(), device=z.device)
    for start, stop, source, root in _rows(x, z):
        importance[start:stop] = (source - root).abs_().mul_(_divergence(source, root)[:, None]).reshape(-1)
    threshold = _threshold(importance)
    source, root = x.reshape(-1), z.reshape(-1)
    for start, stop in spans(z.numel(), chunk):
        theirs, own = source[start:stop].float(), root[start:stop].float()
        chosen = torch.where(importance[start:stop] >= threshold, theirs, own)
        # NaN and infinity stay visible even in elements that are not chosen; a comparison with NaN is false.
        result.write(start, stop, chosen.add_(theirs * 0.0).add_(own * 0.0).add_(0.0))


def _rows(x: Tensor, z: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(start, stop, x, z) of consecutive rows, float32 [rows, width]."""
    width = z.shape[-1] if z.ndim else 1
    flats = x.reshape(-1), z.reshape(-1)
    most = AT_ONCE if z.device.type == "cpu" else DEVICE_AT_ONCE
    for start, stop in spans(z.numel(), max(1, most // max(1, width)) * max(1, width)):
        source, root = (flat[start:stop].float().view(-1, width) for flat in flats)
        yield start, stop, source, root


def _divergence(source: Tensor, root: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of each row, float32 [rows]: of the source's softmax from the base's."""
    p, q = (torch.softmax(values, dim=-1).add_(LEAST_PROBABILITY) for values in (source, root))
    terms = p * (p / q).log_()
    # Wide rows in pieces, each too short for torch to split among threads.
    return torch.stack([part.sum(dim=-1) for part in torch.split(terms, AT_ONCE, dim=-1)]).sum(dim=0)


def _threshold(importance: Tensor) -> float:
    """Q2 + 1.5 (Q3 - Q1) in float32, by exact quartiles; NaN if an importance is NaN."""
    count = importance.numel()
    if not count or bool(torch.isnan(importance).any()):
        return math.nan
    first, middle, third = values_at(importance, [math.floor(share * (count - 1)) for share in (0.25, 0.5, 0.75)])
    return as_float32(middle + as_float32(SPREAD * as_float32(third - first)))
