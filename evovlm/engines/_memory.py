"""Fits rows, cache and chunk into the free memory. Knows towers and runners; generates no answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import psutil
import torch

from evovlm.engines._grouping import Group
from evovlm.engines._plain_runner import PlainRunner
from evovlm.engines._runner import Runner, Size
from evovlm.engines._tower_view import Tower

# Share of the accelerator's free memory to use: the rest is for the current chunk and for fragmentation.
SHARE = 0.85
# Tokens read at a time: enough to use the hardware well, few enough to keep activations small.
LARGEST_CHUNK = 24576
SMALLEST_CHUNK = 2048
CHUNK_ON_CPU = 8192
CAPACITY_STEP = 64  # lengths are rounded up to it, so that item sets of similar lengths share a cache


def chunk_bytes(tower: Tower) -> int:
    """Return the bytes of activations per token of a chunk, at the widest point of a layer."""
    layer = tower.layers[0]
    wide = layer.gate_up.shape[0] + layer.down.shape[1] + layer.qkv.shape[0] + 5 * tower.embed.shape[1]
    return int(wide * tower.embed.element_size())


def chunk_tokens(tower: Tower) -> int:
    """Return how many tokens to read at a time."""
    if tower.embed.device.type != "cuda":
        return CHUNK_ON_CPU
    free = free_bytes(tower.embed.device) * SHARE
    return max(SMALLEST_CHUNK, min(LARGEST_CHUNK, int(free / chunk_bytes(tower))))


def has_fused(tower: Tower) -> bool:
    """Whether the fused kernels support this tower on its device."""
    width = tower.dim
    return tower.embed.device.type == "cuda" and find_spec("triton") is not None and width in (16, 32, 64, 128, 256)


def new_runner(
    tower: Tower, groups: Sequence[Group], rows: int, most: int, last: Runner | None, *, fused: bool = True
) -> Runner:
    """Return a runner for these groups, with up to `rows` texts at a time; reuses `last` if it fits them.

    `most`: new tokens per text. `fused`: whether fused kernels may be used. Raises torch.OutOfMemoryError if the cache
    does not fit into the free memory.
    """
    rows = min(rows, sum(len(group.questions) for group in groups))
    if not (fused and has_fused(tower)):
        capacity = max(group.longest for group in groups) + most
        if isinstance(last, PlainRunner) and last.serves(rows, capacity):
            return last
        return PlainRunner(tower, rows, capacity)
    from evovlm.engines._pooled_runner import PooledRunner

    size = _size(groups, rows, most)
    if isinstance(last, PooledRunner) and last.serves(size):
        return last
    if isinstance(last, PooledRunner):
        last.free()
    room = int(free_bytes(tower.embed.device) * SHARE) - SMALLEST_CHUNK * chunk_bytes(tower)
    widest = LARGEST_CHUNK * chunk_bytes(tower)
    room = room - widest if room > 3 * widest else room // 2
    tokens = min(size.tokens, room // tower.token_bytes)
    least = size.rows * size.own + max(len(group.ids) for group in groups)
    if tokens < least:
        raise torch.OutOfMemoryError(f"a key-value cache of {least} tokens does not fit into {room} bytes")
    return PooledRunner(tower, size._replace(tokens=tokens), size)


def _size(groups: Sequence[Group], rows: int, most: int) -> Size:
    own = _up(max(len(question.ids) for group in groups for question in group.questions) + most)
    beginnings, taken = 0, 0
    for group in groups:  # the longest come first
        if taken + len(group.questions) > rows:
            break
        beginnings, taken = beginnings + len(group.ids), taken + len(group.questions)
    longest = _up(max(len(group.ids) for group in groups))
    return Size(rows=rows, own=own, longest=longest, tokens=rows * own + _up(max(beginnings, longest)))


def _up(tokens: int) -> int:
    return -(-tokens // CAPACITY_STEP) * CAPACITY_STEP


def free_bytes(device: torch.device) -> int:
    """Free bytes: what the device has left plus what torch's allocator holds unused."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
