"""Scratch memory that each thread keeps between merges, because fresh pages cost more than the sums done on them.

Knows no methods. NumPy owns the memory, because tensors created in torch's inference mode cannot be written to
outside it.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Larger requests are allocated anew each time, so that a thread keeps at most this many elements per name.
MOST_KEPT = 1 << 20
CPU = torch.device("cpu")


class Scratch(threading.local):
    """Named float32 buffers of one thread; taking a name again reuses (overwrites) its last buffer."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float32]] = {}

    def take(self, name: str, rows: int, columns: int, device: torch.device = CPU) -> Tensor:
        """An uninitialised float32 tensor [rows, columns], valid until the name is taken again."""
        count = rows * columns
        if count > MOST_KEPT or device.type != "cpu":
            return torch.empty(rows, columns, device=device)
        if name not in self._kept or len(self._kept[name]) < count:
            self._kept[name] = np.empty(count, dtype=np.float32)
        return torch.from_numpy(self._kept[name][:count]).view(rows, columns)


SCRATCH = Scratch()
