"""Stores merged values: rounds them to the merge's dtype and writes them to a given tensor or a new one.

Knows no methods.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor


def as_float32(value: float) -> float:
    """Round a number to the nearest float32; a number beyond float32's range becomes infinite."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class Result:
    """The merged tensor, filled chunk by chunk.

    shape, dtype: of the merged tensor. out: a tensor of that shape to fill, of any dtype; it receives the values
    after rounding to `dtype`. chunk: the most elements per `write`.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, out: Tensor | None, chunk: int) -> None:
        assert out is None or tuple(out.shape) == tuple(shape), f"out: {tuple(out.shape)} for {tuple(shape)}"
        self._out = out
        direct = out is not None and out.is_contiguous()
        self._tensor = out.detach() if out is not None and direct else torch.empty(tuple(shape), dtype=dtype)
        self._flat = self._tensor.view(-1)
        rounds = self._tensor.dtype != dtype
        count, device = min(chunk, self._flat.numel()), self._tensor.device
        self._rounded = torch.empty(count, dtype=dtype, device=device) if rounds else None

    def write(self, start: int, stop: int, values: Tensor) -> None:
        """Write elements start ... stop - 1 from float32 values [stop - start]."""
        if self._rounded is not None:
            values = self._rounded[: stop - start].copy_(values)
        self._flat[start:stop].copy_(values)

    def finish(self) -> Tensor:
        """The filled tensor: `out` if one was given, otherwise a new tensor."""
        if self._out is None:
            return self._tensor
        if self._tensor.data_ptr() != self._out.data_ptr():
            self._out.detach().copy_(self._tensor)
        return self._out
