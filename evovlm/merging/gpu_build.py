"""Builds on a GPU: streams a merge's tensors from their files through the kernels and into a checkpoint's files.

Knows assemblies, the GPU merger and the writer of tensors; no configurations or model cards. While one part is merged,
threads read the parts after it into pinned memory and write the parts before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from evovlm.merging._outputs import copied_tensor, refuse_non_finite
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.placement import Placement
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.methods.interpolate import copy_single
from evovlm.methods.kernels import triton_is_there, way_of
from evovlm.models.checkpoint import CheckpointWriter
from evovlm.system.device import current_gpu
from evovlm.system.faults import is_out_of_memory

PART = 64 << 20  # elements that are merged at a time, and one tensor more
BLOCKS = 3  # of pinned memory, each for a merged part: one is filled while the others are written
WRITERS = 8
ALIGN = 128  # elements, so that the kernels read and write 16 bytes at once
READABLE = (torch.bfloat16, torch.float16, torch.float32)


def why_not_on_gpu(assembly: Assembly) -> str | None:
    """Why a GPU would not merge this, or not to the same bits as the CPU; None if it would."""
    recipe = assembly.recipe
    if not triton_is_there():
        return "Triton is not installed; install it with: pip install 'evovlm[gpu]'"
    if METHODS[recipe.method].rule is copy_single:
        return "its tensors are copied, not computed"
    if way_of(recipe.method, assembly.options) == "whole":
        return f"{recipe.method} has no fused kernel, and its own rule may round otherwise on a GPU"
    stored = {assembly.source_dtype(source, name) for job in assembly.jobs for source, name in job.parts}
    if assembly.base is not None:
        stored |= {assembly.base_dtype(job) for job in assembly.jobs}
    if unread := sorted(str(dtype).removeprefix("torch.") for dtype in stored - {*READABLE}):
        return f"the kernels do not read {', '.join(unread)}"
    return None


def merge_on_gpu(
    assembly: Assembly,
    writer: CheckpointWriter,
    account: Callable[[int], None],
    device: torch.device,
    tell: Callable[[str], None],
    part_elements: int = PART,
) -> set[str]:
    """Merge and write tensors; returns the keys of those written. If some are left to the CPU, `tell` says why.

    account: called with the bytes of each tensor that is written. A part is `PART` elements and one tensor more, or the
    largest tensor. The GPU holds at most the sources and the base of three parts, one merged part, and the tables of
    one part; the host, in pinned memory, as many sources, and three merged parts.
    Raises CheckpointError if values are not finite.
    """
    pool = ThreadPoolExecutor(WRITERS)
    output = _Output(writer, pool, account)
    try:
        for key in assembly.copied:
            output.begin(key, partial(_write_copied, assembly, writer, key))
        try:
            _stream(assembly, output, device, tell, part_elements)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            tell(f"the rest is merged on the CPU: {device} has not enough free memory")
        output.settle(0)
    finally:
        pool.shutdown(cancel_futures=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return output.written


class _Output:
    """Tensors being written by threads, in the order in which they were begun."""

    def __init__(self, writer: CheckpointWriter, pool: ThreadPoolExecutor, account: Callable[[int], None]) -> None:
        self.writer, self._pool, self._account = writer, pool, account
        self.written: set[str] = set()
        self._begun: deque[tuple[str, Future[None]]] = deque()
        self.count = 0

    def begin(self, key: str, write: Callable[[], None]) -> None:
        self._begun.append((key, self._pool.submit(write)))
        self.count += 1

    def settle(self, left: int) -> None:
        """Wait until at most the last `left` begun are unfinished. Raises what a writing thread raised."""
        while len(self._begun) > left:
            key, writing = self._begun.popleft()
            writing.result()
            self.written.add(key)
            self._account(self.writer.info(key).nbytes)


def _write_copied(assembly: Assembly, writer: CheckpointWriter, key: str) -> None:
    writer.write(key, copied_tensor(assembly, key))


def _stream(
    assembly: Assembly, output: _Output, device: torch.device, tell: Callable[[str], None], part_elements: int
) -> None:
    from evovlm.merging.live.gpu import DeviceMerger, Faults, parts_of

    def turn(job: Job) -> int:
        # A part has tensors of all shards, for most file systems let one thread at a time write to a file.
        return output.writer.offset(job.key)

    parts = parts_of(assembly.jobs, part_elements, turn)
    if not parts:
        return
    most = max(_offsets(part)[-1] for part in parts)
    live = torch.empty(most, dtype=assembly.dtype, device=device)
    # All parts' parameters lie in the same memory: each is copied from it before the next is merged.
    tower = {
        job.name: torch.nn.Parameter(view, requires_grad=False)
        for part in parts
        for job, view in zip(part, _views(part, live), strict=True)
    }
    blocks = [torch.empty(most, dtype=assembly.dtype, pin_memory=device.type == "cuda") for _ in parts[:BLOCKS]]
    labels = [*assembly.sources, *([] if assembly.base is None else [assembly.recipe.base_label])]
    merger = DeviceMerger(
        assembly,
        tower,
        Placement(dict.fromkeys(labels, "disk"), dict.fromkeys(labels, 0)),
        part_elements=part_elements,
        turn=turn,
        tell=tell,
    )
    faults: Faults = []
    inexact: set[str] = set()
    ends: deque[int] = deque()  # how many tensors had been begun when each block was last handed to the writers
    with current_gpu(device):
        for index, part in enumerate(merger.merge_once()):
            if len(ends) == len(blocks):
                output.settle(output.count - ends.popleft())
            _hand_over(part.jobs, live, blocks[index % len(blocks)], output, part.inexact)
            ends.append(output.count)
            faults += part.faults
            inexact |= part.inexact
    _refuse_faults(assembly, faults)
    if inexact:
        tell(f"{len(inexact)} tensors are merged on the CPU: they have more magnitudes than the GPU's tables keep")


def _hand_over(jobs: Sequence[Job], live: Tensor, block: Tensor, output: _Output, but: frozenset[str]) -> None:
    """Copy a merged part to pinned memory behind its merge, and let threads write it from there."""
    size = _offsets(jobs)[-1]
    block[:size].copy_(live[:size], non_blocking=True)
    copied = None
    if live.device.type == "cuda":
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied.record()
    for job, merged in zip(jobs, _views(jobs, block), strict=True):
        if job.name not in but:
            output.begin(job.key, partial(_write, output.writer, job.key, merged, copied))


def _write(writer: CheckpointWriter, key: str, merged: Tensor, copied: torch.cuda.Event | None) -> None:
    if copied is not None:
        copied.synchronize()
    writer.write(key, merged)


def _refuse_faults(assembly: Assembly, faults: Sequence[tuple[list[str], Tensor]]) -> None:
    """Raise CheckpointError if the CPU finds a flagged tensor not finite; a flag may be of a sum alone."""
    flags = torch.cat([flags for _, flags in faults]).cpu().tolist()
    names = [name for several, _ in faults for name in several]
    flagged = {name for name, flag in zip(names, flags, strict=True) if flag}
    for job in assembly.jobs:
        if job.name in flagged:
            refuse_non_finite(assembly, assembly.merge(job), job)


def _offsets(jobs: Sequence[Job]) -> list[int]:
    """Where each tensor begins in a block, in elements, and where the last one ends."""
    return list(accumulate((-(-prod(job.shape) // ALIGN) * ALIGN for job in jobs), initial=0))


def _views(jobs: Sequence[Job], block: Tensor) -> Iterator[Tensor]:
    for job, offset in zip(jobs, _offsets(jobs), strict=False):
        yield block[offset : offset + prod(job.shape)].view(job.shape)
