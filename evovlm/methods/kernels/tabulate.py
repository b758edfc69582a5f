"""|delta|_1 by draw in Triton: one pass over a task vector, with integer sums that are exact in any order.

Knows a flat task vector and a key; no models and no recipes.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from evovlm.methods._fixed_point import exponent
from evovlm.methods.draws import LEVELS
from evovlm.methods.kernels._fused import LANES, draws_above
from evovlm.methods.kernels.tables import DrawSums

GROUPS = 256
# From this value on, every float32 is an integer.
INTEGERS = tl.constexpr(8388608.0)


@triton.jit
def add_by_draw(sizes, sums, key_low, key_high, factor, count, GROUPS: tl.constexpr):
    """Add round(size x factor) to the sum of its draw. sizes: float32 [count], |delta|. sums: int64 [65536]."""
    groups = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    places = groups[:, None] * LANES + tl.arange(0, LANES)[None, :]
    inside = places < count
    scaled = tl.load(sizes + places, mask=inside, other=0.0) * factor
    # Round halves to even, as on the CPU: adding 2**23 leaves no bits below 1.
    rounded = tl.where(scaled < INTEGERS, (scaled + INTEGERS) - INTEGERS, scaled)
    draws = draws_above(groups.to(tl.uint32), tl.load(key_low).to(tl.uint32), tl.load(key_high).to(tl.uint32)) >> 16
    tl.atomic_add(sums + draws.to(tl.int32), rounded.to(tl.int64), mask=inside, sem="relaxed")


def draw_sums(sizes: Tensor, key: int, largest: float) -> DrawSums:
    """The table of |delta| by draw. sizes: |delta|, float32 [n], contiguous. key: of the draws.

    largest: the maximum of `sizes`, finite and above 0.
    """
    sums = torch.zeros(LEVELS, dtype=torch.int64, device=sizes.device)
    programs = -(-sizes.numel() // (GROUPS * LANES.value))
    # Pass each 32-bit half of the key in an int64 tensor, so that Triton does not specialise the kernel for its value.
    low, high = (torch.tensor(half, dtype=torch.int64, device=sizes.device) for half in (key & 0xFFFFFFFF, key >> 32))
    scale = 2.0 ** exponent(largest)
    add_by_draw[(programs,)](sizes, sums, low, high, scale, sizes.numel(), GROUPS=GROUPS, enable_fp_fusion=False)
    return DrawSums(np.concatenate([[0], np.cumsum(sums.cpu().numpy())]))
