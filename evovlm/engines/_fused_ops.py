"""The operations between a tower's matrix products, one Triton kernel each. Knows tensors; no models."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from evovlm.engines import _fused_kernels as kernels
from evovlm.engines._forward import Ops


def round_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows [rows, width] to e4m3 in one pass; returns (stored [rows, width], scale float32 [rows])."""
    count, width = rows.shape
    stored = torch.empty(count, width, dtype=torch.float8_e4m3fn, device=rows.device)
    scale = torch.empty(count, dtype=torch.float32, device=rows.device)
    block = triton.next_power_of_2(width)
    kernels.round_rows_kernel[(count,)](rows, stored, scale, width, block, num_warps=8)
    return stored, scale


def _norm(stream: Tensor, weight: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(stream)
    rows, width = stream.shape
    block = triton.next_power_of_2(width)
    kernels.add_norm_kernel[(rows,)](stream, stream, weight, out, width, eps, False, block, num_warps=8)
    return out


def _add_norm(stream: Tensor, more: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(stream)
    rows, width = stream.shape
    block = triton.next_power_of_2(width)
    kernels.add_norm_kernel[(rows,)](stream, more, weight, out, width, eps, True, block, num_warps=8)
    return stream, out


def _gated(gate_up: Tensor) -> Tensor:
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, inner)
    kernels.gated_kernel[(rows, triton.cdiv(inner, 2048))](gate_up, out, inner, 2048, num_warps=8)
    return out


FUSED = Ops(_norm, _add_norm, _gated)
