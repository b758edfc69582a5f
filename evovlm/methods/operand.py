"""The inputs of a merge: one source's tensor with its parameters, read as a task vector chunk by chunk.

Knows tensors and draws; not how terms are dropped or added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods._scratch_buffers import SCRATCH
from evovlm.methods.draws import Draws

# Elements processed at once: the float32 buffers stay in a core's level-2 cache, and torch does not split the work
# among its own threads (it does so from 32768 elements up); threading is up to the caller.
CHUNK = 32768

Magnitudes: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass
class Tables:
    """A cache for repeated merges of one source's tensor; nothing in it depends on weight, density or lambda.

    Filled on demand, for one (base, source, tensor) and one thread at a time. It holds whole tensors, so it is for
    searches over models that fit into memory several times.
    """

    delta: NDArray[np.float32] | None = None
    largest: float | None = None  # max |delta|
    ascending: Magnitudes | None = None  # sorted |delta|
    ranks: NDArray[np.uint32] | None = None  # rank of |delta| within its row
    total: int | None = None  # |delta|_1 in fixed point
    kept_below: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None  # draws, |delta|_1 of elements below each
    # What a method's `prepare` made of the task vector: for which method and own options; of its shape.
    prepared: tuple[object, Tensor] | None = None


@dataclass(frozen=True)
class Operand:
    """One source's part in a merge.

    tensor: any floating dtype. density: share of the task vector that is kept; 1 or more keeps all.
    draws: decide what is dropped. tables: an optional cache, see `Tables`. mask: elements to keep, of the tensor's
    shape, instead of those that draws and density would choose.
    """

    tensor: Tensor
    weight: float
    density: float
    draws: Draws
    tables: Tables | None = None
    mask: Tensor | None = field(default=None, repr=False)


def spans(count: int, chunk: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive pieces of at most `chunk` elements."""
    return ((start, min(start + chunk, count)) for start in range(0, count, chunk))


def shortened(rows: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """The first `count` elements of each of the equally long rows; usually these are the rows themselves."""
    return rows if not rows or len(rows[0]) == count else [row[:count] for row in rows]


def as_read(tensor: Tensor, base: Tensor | None) -> Tensor:
    """A whole tensor as methods read it: rounded to the base's dtype if there is a base, then float32."""
    return (tensor.detach() if base is None else tensor.detach().to(base.dtype)).float()


class TaskVector:
    """A source minus the base in float32, read in chunks; the source is first rounded to the base's dtype."""

    def __init__(self, base: Tensor, operand: Operand, chunk: int) -> None:
        self.operand = operand
        self.count = operand.tensor.numel()
        self.row = operand.tensor.shape[-1] if operand.tensor.ndim else 1
        self.chunk = chunk
        # Set by a drop by magnitude: how many elements too many are kept at the lowest kept magnitude, and its value.
        self.edge: tuple[int, float] | None = None
        self._base = base
        self._source = operand.tensor.detach().reshape(-1)
        self._whole: Tensor | None = None
        if operand.tables is not None:
            if operand.tables.delta is None:
                whole = torch.empty(self.count)
                for start, stop, delta in self.pieces():
                    whole[start:stop] = delta
                operand.tables.delta = whole.numpy()
            self._whole = torch.from_numpy(operand.tables.delta)

    def read(self, start: int, stop: int, out: Tensor, base: Tensor, *, base_read: bool = False) -> Tensor:
        """Elements start ... stop - 1, float32 [stop - start], possibly in `out`; do not write to it.

        base: scratch of the same shape or, with `base_read`, these elements of the base in float32.
        """
        if self._whole is not None:
            return self._whole[start:stop]
        if not base_read:
            base.copy_(self._base[start:stop])
        source = self._source[start:stop]
        if source.dtype != self._base.dtype:
            source = source.to(self._base.dtype)
        return out.copy_(source).sub_(base)

    def pieces(self, step: int | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (start, stop, delta) over the whole tensor, `step` elements at a time.

        Each delta is valid until the next; a thread may run only one such scan at a time.
        """
        size = min(step or self.chunk, self.count)
        rows = SCRATCH.take("pieces", 2, size).unbind()
        for start, stop in spans(self.count, max(size, 1)):
            out, base = shortened(rows, stop - start)
            yield start, stop, self.read(start, stop, out, base)

    def magnitudes(self, step: int | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """Like `pieces`, but yields |delta|."""
        scratch = SCRATCH.take("magnitudes", 1, min(step or self.chunk, self.count))[0]
        for start, stop, delta in self.pieces(step):
            yield start, stop, torch.abs(delta, out=scratch[: stop - start])
