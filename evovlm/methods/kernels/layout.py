"""The tables for a launch: which tensors it merges, where their bytes are, and how they are cut into tiles.

Knows tensors and addresses; no models and no recipes. Addresses and tiles do not change between candidates, because
live tensors and sources do not move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LANES = 8  # elements that share a counter; also the 16 bytes that a thread reads at once
WIDTH = 8  # numbers per source and tensor (see `_fused`)
SETS = 8  # divisors per tensor, one for each set of up to three sources
SHARED = 64  # elements of an 8-bit task vector that share a scale


@dataclass(frozen=True)
class Operands:
    """One tensor's operands in device memory: flat, contiguous, of equal length.

    sources: of any floating dtype, or int8 with a float32 scale per `SHARED` elements in `scales`. masks: int8, 1 where
    a source's element is kept, for methods whose masks are made beforehand; float32 for `rescale: per_element`, an
    element's own factor, 0 where it is dropped.
    """

    out: Tensor
    base: Tensor | None
    sources: tuple[Tensor, ...]
    scales: tuple[Tensor, ...] = ()
    masks: tuple[Tensor, ...] = ()

    def addresses(self) -> list[int]:
        """The addresses of out, base, and the values and scales (or mask) of each source; 0 for what is missing."""
        scales = [scale.data_ptr() for scale in self.scales or self.masks] or [0] * len(self.sources)
        values = [source.data_ptr() for source in self.sources]
        base = 0 if self.base is None else self.base.data_ptr()
        return [self.out.data_ptr(), base, *(one for pair in zip(values, scales, strict=True) for one in pair)]

    def tensors(self) -> list[Tensor]:
        """All tensors that are read or written."""
        return [self.out, *([] if self.base is None else [self.base]), *self.sources, *self.scales, *self.masks]


@dataclass(frozen=True)
class Form:
    """What a kernel is compiled for. `merged`: the dtype that values are rounded to before conversion to `out`'s."""

    base: torch.dtype | None
    sources: tuple[torch.dtype, ...]
    merged: torch.dtype
    out: torch.dtype
    aligned: bool

    @property
    def eight_bit(self) -> bool:
        """Whether the sources are task vectors in 8 bits."""
        return self.sources[0] == torch.int8


def form_of(operands: Operands, merged: torch.dtype) -> Form:
    """The form of one tensor's operands."""
    parts = [operands.out, *operands.sources, *operands.masks, *([] if operands.base is None else [operands.base])]
    return Form(
        base=None if operands.base is None else operands.base.dtype,
        sources=tuple(source.dtype for source in operands.sources),
        merged=merged,
        out=operands.out.dtype,
        aligned=all(part.data_ptr() % 16 == 0 for part in parts),
    )


@dataclass(frozen=True)
class Batch:
    """The tensors that one launch merges, with their tables on the device.

    tiles: int32 [programs, 2], the tensor and the run of `repeats` tiles in it. addresses: int64 [tensors, 2 + 2
    sources]. counts: int64 [tensors], elements. numbers: int32 [tensors, sources, WIDTH] and divisors: float32
    [tensors, SETS], filled for each candidate. faults: int32 [tensors], 1 if a merged value is not finite.
    """

    form: Form
    groups: int  # counters per tile
    repeats: int  # tiles per program
    tiles: Tensor
    addresses: Tensor
    counts: Tensor
    numbers: Tensor
    divisors: Tensor
    faults: Tensor


def make_batch(
    tensors: Sequence[Operands], merged: torch.dtype, device: torch.device, groups: int, repeats: int
) -> Batch:
    """Make the tables of tensors of one form. groups: counters per tile, a power of two. repeats: tiles per program."""
    form = form_of(tensors[0], merged)
    counts = [operands.out.numel() for operands in tensors]
    pieces = [-(-count // (repeats * groups * LANES)) for count in counts]
    tiles = np.empty((sum(pieces), 2), dtype=np.int32)
    tiles[:, 0] = np.repeat(np.arange(len(pieces)), pieces)
    tiles[:, 1] = np.concatenate([np.arange(piece) for piece in pieces]) if pieces else 0
    return Batch(
        form=form,
        groups=groups,
        repeats=repeats,
        tiles=torch.from_numpy(tiles).to(device),
        addresses=torch.tensor([operands.addresses() for operands in tensors], dtype=torch.int64).to(device),
        counts=torch.tensor(counts, dtype=torch.int64).to(device),
        numbers=torch.zeros(len(counts), len(form.sources), WIDTH, dtype=torch.int32, device=device),
        divisors=torch.ones(len(counts), SETS, dtype=torch.float32, device=device),
        faults=torch.zeros(len(counts), dtype=torch.int32, device=device),
    )
