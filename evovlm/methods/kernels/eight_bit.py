"""Task vectors in 8 bits: a signed byte per element, and a float32 scale per 64 elements.

Knows tensors; no models. The quantisation error is measured; no bound is guaranteed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.methods.kernels.layout import SHARED

MOST = 127


@dataclass(frozen=True)
class Packed:
    """values: int8 [n]. scales: float32 [ceil(n / 64)]. error, size: squared norms of rounding error and delta."""

    values: Tensor
    scales: Tensor
    error: float
    size: float


def pack(delta: Tensor) -> Packed:
    """Quantise float32 [n] to multiples of each block's largest magnitude / 127; stays on its device."""
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
    """The task vector as the fused pass adds it: float32 [n]. values: int8 [n]. scales: float32 [ceil(n / 64)]."""
    return values.float() * scales.repeat_interleave(SHARED)[: values.numel()]
