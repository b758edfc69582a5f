"""Products in 8 bits: a tower's weights and activations rounded to e4m3 floats, each row by its own largest.

Knows towers; no caches and no prompts. A reduced fidelity for searches: what it changes is to be measured. On a GPU the
products run in 8 bits; on a CPU the same rounding is played through in the tower's dtype, which gains no time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from evovlm.engines._tower_view import Tower

LARGEST = 448.0  # of e4m3
FLOAT8 = torch.float8_e4m3fn
NAMES = ("qkv", "out", "gate_up", "down")


@dataclass(frozen=True)
class EightBit:
    """A weight [out, in] whose live tensor is `source`; `stored` and `scale` [out] follow it when told to."""

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
        """Weights."""
        return self.source.numel()

    def follow(self) -> None:
        """Round the live weight anew, in place."""
        stored, scale = rounded(self.source)
        self.stored.copy_(stored)
        self.scale.copy_(scale)

    def product(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """inputs [rows, in] times the weight: [rows, out]."""
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
    """e4m3 [rows, width] and its scale [rows], float32: row = stored * scale."""
    if rows.is_cuda:
        from evovlm.engines._fused_ops import round_rows

        return round_rows(rows)
    scale = rows.float().abs().amax(dim=-1).clamp(min=1e-12) / LARGEST
    return (rows.float() / scale[:, None]).to(FLOAT8), scale


def in_eight_bits(tower: Tower) -> Tower:
    """The same tower with 8-bit copies of its layers' products; embeddings, norms and head stay as they are."""
    layers = [
        replace(layer, **{name: _copy(getattr(layer, name)) for name in NAMES})  # type: ignore[arg-type]
        for layer in tower.layers
    ]
    return replace(tower, layers=tuple(layers))


def follow_weights(tower: Tower) -> None:
    """Round all live weights anew, as after each merge."""
    for layer in tower.layers:
        for name in NAMES:
            weight: Any = getattr(layer, name)
            weight.follow()


def _copy(weight: Tensor) -> EightBit:
    stored, scale = rounded(weight)
    return EightBit(weight, stored, scale)
