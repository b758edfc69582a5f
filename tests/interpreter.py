"""Triton's interpreter, taught to round as a GPU does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fused(left: Any, right: Any, addend: Any) -> NDArray[np.float32]:
    """left x right + addend of float32 arrays, rounded once.

    The product is exact in float64. The sum is rounded to odd there, after which rounding to float32 is exact.
    """
    with np.errstate(all="ignore"):
        product = left.astype(np.float64) * right.astype(np.float64)
        total = np.asarray(product + addend)
        back = total - product
        lost = (product - (total - back)) + (addend - back)
        bits = total.view(np.int64)
        inexact = np.isfinite(lost) & (lost != 0) & (bits & 1 == 0)
        step = np.where((lost > 0) == (total > 0), 1, -1)
        return np.where(inexact, bits + step, bits).view(np.float64).astype(np.float32)


def fuse_multiply_adds() -> None:
    """Make the interpreter's `fma` round once; its own rounds the product too."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        return TensorHandle(fused(x.data, y.data, z.data), z.dtype.scalar)

    InterpreterBuilder.create_fma = create_fma
