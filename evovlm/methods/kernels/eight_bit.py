"""Task vectors in 8 bits: a signed byte an element, and a float32 scale for every 64 of them.

Knows tensors; no models. The error is measured, not promised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.methods.kernels.layout import SHARED

MOST = 127


@dataclass(frozen=True)
class Packed:
    """values: int8 [n]. scales: float32 [ceil(n / 64)]. error, size: squared norms of what was lost and of delta."""

    values: Tensor
    scales: Tensor
    error: float
    size: float


def pack(delta: Tensor) -> Packed:
    """Round float32 [n] to the nearest multiple of each block's largest magnitude / 127; on its device."""
    count = delta.numel()
    blocks = -(-count // SHARED)
    padded = torch.nn.functional.pad(delta, (0, blocks * SHARED - count)).view(blocks, SHARED)
    scales = padded.abs().amax(dim=1).div_(MOST)
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales))
    values = (padded / divisors[:, None]).round_().clamp_(-MOST, MOST).to(torch.int8)
    lost = padded - values.float() * scales[:, None]
    error, size = (float(part.double().square().sum()) for part in (lost, delta))
    return Packed(values.view(-1)[:count].contiguous(), scales, error, size)


def unpack(values: Tensor, scales: Tensor) -> Tensor:
    """The task vector that the fused pass adds: float32 [n]."""
    return values.float() * scales.repeat_interleave(SHARED)[: values.numel()]
