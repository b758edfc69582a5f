"""Exact order statistics of a task vector's magnitudes, the same for any chunk size.

Knows magnitudes; not what the statistics are for. Non-negative float32 values sort like their bit patterns, so two
histograms of 16 bits each find a value without sorting the tensor or holding it in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evovlm.methods.operand import Magnitudes, TaskVector

BINS = 65536
HALF = np.uint32(16)
LOW = np.uint32(0xFFFF)
Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Statistic:
    """The magnitude at an ascending rank, how many magnitudes are smaller (`below`), and how many are equal."""

    value: float
    below: int
    equal: int


def order_statistics(vector: TaskVector, ranks: Sequence[int]) -> list[Statistic]:
    """The magnitudes at the given ascending ranks (0 is the smallest). ranks: each in 0 ... count - 1, any order."""
    tables = vector.operand.tables
    if tables is None:
        return _by_histogram(vector, ranks)
    if tables.ascending is None:
        assert tables.delta is not None, "a task vector with tables fills them when it is made"
        tables.ascending = np.sort(np.abs(tables.delta))
    return [_by_search(tables.ascending, rank) for rank in ranks]


def _by_search(ascending: Magnitudes, rank: int) -> Statistic:
    value = ascending[rank]
    below = int(np.searchsorted(ascending, value, side="left"))
    return Statistic(float(value), below, int(np.searchsorted(ascending, value, side="right")) - below)


def _by_histogram(vector: TaskVector, ranks: Sequence[int]) -> list[Statistic]:
    high = np.zeros(BINS, dtype=np.int64)
    for _, _, magnitudes in vector.magnitudes():
        high += np.bincount(_bits(magnitudes.numpy()) >> HALF, minlength=BINS)
    before = np.cumsum(high)
    bins = [int(np.searchsorted(before, rank, side="right")) for rank in ranks]
    low = {number: np.zeros(BINS, dtype=np.int64) for number in bins}
    for _, _, magnitudes in vector.magnitudes():
        bits = _bits(magnitudes.numpy())
        for number, counts in low.items():
            inside = bits[bits >> HALF == np.uint32(number)]
            np.add(counts, np.bincount(inside & LOW, minlength=BINS), out=counts)
    return [
        _inside(low[number], number, int(before[number] - high[number]), rank)
        for number, rank in zip(bins, ranks, strict=True)
    ]


def _inside(counts: Counts, number: int, below: int, rank: int) -> Statistic:
    """The value at `rank`, given the low-half counts of high-half bin `number`; `below` values are in lower bins."""
    before = np.cumsum(counts)
    low = int(np.searchsorted(before, rank - below, side="right"))
    bits = np.array([(number << 16) | low], dtype=np.uint32)
    return Statistic(float(bits.view(np.float32)[0]), below + int(before[low] - counts[low]), int(counts[low]))


def _bits(magnitudes: Magnitudes) -> NDArray[np.uint32]:
    return magnitudes.view(np.uint32)


def values_at(values: Tensor, ranks: Sequence[int]) -> list[float]:
    """The values at the given ascending ranks of any float32 tensor [n], on any device; NaN is the largest."""
    if values.device.type == "cpu":
        return [float(value) for value in np.partition(values.numpy(), ranks)[list(ranks)]]
    # On a GPU torch selects with one block, which takes longer for one rank than a sort does for all.
    ascending = torch.sort(values).values
    return [float(ascending[rank]) for rank in ranks]


def row_ranks(vector: TaskVector) -> Iterator[tuple[int, int, NDArray[np.uint32]]]:
    """Yield (start, stop, ranks) over a whole tensor: the ascending rank of |delta| in its row, uint32, 0 the smallest.

    A row is the last dimension; equal magnitudes are ranked by index.
    """
    tables = vector.operand.tables
    if tables is None:
        yield from _sorted_rows(vector)
        return
    if tables.ranks is None:
        tables.ranks = np.concatenate([ranks for _, _, ranks in _sorted_rows(vector)])
    yield 0, vector.count, tables.ranks


def _sorted_rows(vector: TaskVector) -> Iterator[tuple[int, int, NDArray[np.uint32]]]:
    width = vector.row
    places = np.arange(width, dtype=np.uint64)
    for start, stop, magnitudes in vector.magnitudes(max(1, vector.chunk // width) * width):
        # Magnitude in the high half, index in the low half: an integer sort then orders equal magnitudes by index.
        keys = _bits(magnitudes.numpy()).reshape(-1, width).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= places
        keys.sort(axis=1)
        order = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
        ranks = np.empty(order.shape, dtype=np.uint32)
        np.put_along_axis(ranks, order, places.astype(np.uint32)[None, :], axis=1)
        yield start, stop, ranks.reshape(-1)
