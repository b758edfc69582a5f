"""8-bit matrix products: weights and activations rounded to e4m3 floats, each row scaled by its largest value.

Knows towers; no caches and no prompts. A reduced fidelity for searches: measure how it changes the answers. On a GPU
the products run in 8 bits; on a CPU the same rounding is emulated in float32, which saves no time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from evovlm.engines._tower_view import Tower
from evovlm.system.device import has_float8
from evovlm.system.units import size

LARGEST = 448.0  # the largest e4m3 value
FLOAT8 = torch.float8_e4m3fn
NAMES = ("qkv", "out", "gate_up", "down")
STEP = 16
ROOM = 1.5  # times the copies' bytes that have to be free: the rest is for keys and values


@dataclass(frozen=True)
class EightBit:
    """An 8-bit copy of the live weight `source` [out, in]: `stored` [out, in] and `scale` [out]. See `follow`."""

    source: Tensor
    stored: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """[out, in]."""
        return self.source.shape

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return self.stored.nbytes

    def numel(self) -> int:
        """Number of weights."""
        return self.source.numel()

    def follow(self) -> None:
        """Round the live weight again, in place."""
        stored, scale = rounded(self.source)
        self.stored.copy_(stored)
        self.scale.copy_(scale)

    def product(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Return inputs [rows, in] times the weight, plus `bias` [out] if given: [rows, out]."""
        stored, scale = rounded(inputs)
        if inputs.is_cuda:
            made: Tensor = torch._scaled_mm(
                stored, self.stored.t(), scale[:, None], self.scale[None], out_dtype=torch.bfloat16, use_fast_accum=True
            )
        else:
            wide = (stored.float() * scale[:, None]) @ (self.stored.float() * self.scale[:, None]).t()
            made = wide.to(inputs.dtype)
        return made if bias is None else made + bias


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows [rows, width] to e4m3; returns (stored e4m3 [rows, width], scale float32 [rows]).

    row = stored * scale.
    """
    if rows.is_cuda:
        from evovlm.engines._fused_ops import round_rows

        return round_rows(rows)
    scale = rows.float().abs().amax(dim=-1).clamp(min=1e-12) / LARGEST
    return (rows.float() / scale[:, None]).to(FLOAT8), scale


def why_not(tower: Tower) -> str | None:
    """Why a tower's matrices cannot be multiplied in 8-bit floats on its GPU; None if they can.

    That takes a GPU with such products, bfloat16 for the results, and sides that are multiples of STEP.
    """
    if not has_float8(str(tower.embed.device)):
        return "this GPU does not multiply 8-bit floats, which needs compute capability 8.9"
    if tower.embed.dtype != torch.bfloat16:
        return f"8-bit products give bfloat16, and this model computes in {tower.embed.dtype}".replace("torch.", "")
    sides = {side for name in NAMES for side in getattr(tower.layers[0], name).shape}
    if any(side % STEP for side in sides):
        return f"a GPU multiplies 8-bit matrices with sides that are multiples of {STEP}, not {sorted(sides)}"
    return None


def copies_bytes(tower: Tower) -> int:
    """The bytes of a tower's 8-bit copies, without their scales."""
    return len(tower.layers) * tower.linear_weights


def too_large(copies: int, free: int) -> str | None:
    """Why 8-bit copies should not be made with so many bytes free; None if enough is left for keys and values."""
    if copies * ROOM <= free:
        return None
    return f"its 8-bit copies take {size(copies)}, and {size(free)} are free, which would leave too little to answer in"


def in_eight_bits(tower: Tower) -> Tower:
    """Return the tower with 8-bit copies of its layers' matrices; embeddings, norms and head are unchanged."""
    layers = [
        replace(layer, **{name: _copy(getattr(layer, name)) for name in NAMES})  # type: ignore[arg-type]
        for layer in tower.layers
    ]
    return replace(tower, layers=tuple(layers))


def follow_weights(tower: Tower) -> None:
    """Round all live weights again; needed after each merge."""
    for layer in tower.layers:
        for name in NAMES:
            weight: Any = getattr(layer, name)
            weight.follow()


def _copy(weight: Tensor) -> EightBit:
    stored, scale = rounded(weight)
    return EightBit(weight, stored, scale)
