"""The draws of `methods.draws` in Triton, for masks and for methods that draw on the device.

Knows keys and counts; no tensors of a model and no recipes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evovlm.methods.draws import Draws
from evovlm.methods.kernels._fused import LANES, draws_above

GROUPS = 256


@triton.jit
def write_draws(out, key_low, key_high, first, count, GROUPS: tl.constexpr):
    """Write the draws of elements 8 first ... as int32 [count]. key_low, key_high: int64, one element each."""
    groups = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    places = groups[:, None] * LANES + tl.arange(0, LANES)[None, :]
    counters = (groups + first).to(tl.uint32)
    draws = draws_above(counters, tl.load(key_low).to(tl.uint32), tl.load(key_high).to(tl.uint32)) >> 16
    tl.store(out + places, draws.to(tl.int32), mask=places < count)


class DeviceDraws(Draws):
    """One source's draws for one tensor, made on a device: the same numbers as on the CPU."""

    def __init__(self, seed: int, source: str, tensor: str, device: torch.device) -> None:
        super().__init__(seed, source, tensor)
        self._device = device

    def take(self, start: int, stop: int) -> Tensor:
        """Draws of elements start ... stop - 1 as int32 [stop - start], on the device; below 2**35 elements."""
        first = start // LANES.value
        count = stop - first * LANES.value
        out = torch.empty(count, dtype=torch.int32, device=self._device)
        # Each 32-bit half in an int64 tensor, so that Triton does not specialise the kernel for its value.
        halves = (self.key & 0xFFFFFFFF, self.key >> 32)
        low, high = (torch.tensor(half, dtype=torch.int64, device=self._device) for half in halves)
        programs = -(-count // (GROUPS * LANES.value))
        if programs:
            write_draws[(programs,)](out, low, high, first, count, GROUPS=GROUPS)
        return out[start - first * LANES.value :]
