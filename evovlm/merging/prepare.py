"""Makes the prepared task vectors of all tensors before a search's first candidate needs them, and shows how far it is.

Knows assemblies, their files of vectors and progress reports; no candidates, scores or live models.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS, vector_dtype
from evovlm.system.device import current_gpu
from evovlm.system.errors import StudyError
from evovlm.system.fork_pool import MemberLost, share_out
from evovlm.system.progress import Watch, resumed, tell

READERS = 8  # threads that look for files: hashing and reading wait for the disk and for memory
WRITERS = 4  # threads that hash and write what a GPU has made; each may hold the vectors of one tensor
# Bytes per element and matrix of a tensor while its vectors are made: a few of its size in float64.
MAKING = 32


class SmallDisk(StudyError):
    """Too little space for an assembly's prepared vectors. `needed`, `free`: bytes."""

    def __init__(self, folder: Path, method: str, needed: int, free: int) -> None:
        super().__init__(
            f"{folder}: the task vectors of {method} need {needed:,} bytes, and {free:,} are free; free space there"
            " and run the same command again"
        )
        self.needed, self.free = needed, free


def vector_bytes(assembly: Assembly) -> int:
    """The bytes that the files of an assembly's prepared vectors take; its method must prepare some."""
    return _bytes(assembly, assembly.jobs)


def missing_bytes(assembly: Assembly) -> int:
    """The bytes of the vectors that have no file yet, by the files' names; the assembly must have `vectors`."""
    files, method = assembly.vectors, assembly.recipe.method
    assert files is not None
    return _bytes(assembly, [job for job in assembly.jobs if not files.has_file(method, job.name)])


def refuse_small_disk(assembly: Assembly, needed: int, taken: int = 0) -> None:
    """Raise SmallDisk if so many bytes do not fit where the assembly's `vectors` are, beside `taken` other new ones."""
    files = assembly.vectors
    assert files is not None
    there = next(folder for folder in (files.folder, *files.folder.absolute().parents) if folder.is_dir())
    free = max(0, shutil.disk_usage(there).free - taken)
    if free < needed:
        raise SmallDisk(files.folder, assembly.recipe.method, needed, free)


def making_bytes(assembly: Assembly) -> int:
    """The bytes of memory that making the vectors of the largest tensor takes."""
    return max((_making(job) for job in assembly.jobs), default=0)


def prepare_vectors(assembly: Assembly, device: torch.device, watch: Watch) -> None:
    """Find or make the prepared vectors of all tensors, in a phase of its own; nothing for methods without them.

    device: a GPU, or the CPU, where each process makes those of one tensor on one thread. The assembly must have
    `vectors`. Raises SmallDisk if the disk has too little space, and StudyError if something else stands where they are
    to be, before any are made, and StudyError if a process is lost.
    """
    if METHODS[assembly.recipe.method].prepare is None or assembly.vectors is None:
        return
    files, options = assembly.vectors, assembly.options_of
    jobs = [job for job in assembly.jobs if files.known(assembly.recipe.method, options(job), job.name) is None]
    if not jobs:
        return
    watch.phase("task vectors", len(jobs))
    missing = []
    with ThreadPoolExecutor(READERS) as pool:
        for job, found in zip(jobs, pool.map(lambda job: files.find(assembly.ask_of(job)), jobs), strict=True):
            if found is None:
                missing.append(job)
            else:
                watch.step(job.name)
    resumed(watch)
    if missing:
        files.refuse_blocked(assembly.recipe.method, [job.name for job in missing])
        refuse_small_disk(assembly, _bytes(assembly, missing))
        missing.sort(key=lambda job: -math.prod(job.shape))
        _make(assembly, missing, device, watch)


def _make(assembly: Assembly, jobs: list[Job], device: torch.device, watch: Watch) -> None:
    files = assembly.vectors
    assert files is not None
    if device.type != "cpu":
        _make_beside_writing(assembly, jobs, device, watch)
        return
    if any(math.prod(job.shape) > 2**22 for job in jobs):
        tell(watch, "the task vectors of large matrices take hours on a CPU; a GPU (--device cuda) takes minutes")

    def do(number: int) -> str:
        ask = assembly.ask_of(jobs[number])
        files.make(ask, device)
        return ask.key

    def done(number: int, key: str) -> None:
        files.written(replace(assembly.ask_of(jobs[number]), hashed=key))
        watch.step(jobs[number].name)

    try:
        share_out(range(len(jobs)), do, done, making_members(jobs))
    except MemberLost as lost:
        raise StudyError(f"preparing task vectors: {lost}, most likely out of memory; close other programs") from lost


def _make_beside_writing(assembly: Assembly, jobs: list[Job], device: torch.device, watch: Watch) -> None:
    """Make vectors one tensor after another on a GPU, while threads hash and write those before."""
    files = assembly.vectors
    assert files is not None
    begun: deque[tuple[str, Future[list[Tensor]]]] = deque()

    def settle(left: int) -> None:
        while len(begun) > left:
            name, writing = begun.popleft()
            writing.result()
            watch.step(name)

    with current_gpu(device), ThreadPoolExecutor(WRITERS) as pool:
        for job in jobs:
            ask = assembly.ask_of(job)
            begun.append((job.name, pool.submit(files.keep, ask, ask.made(device))))
            settle(WRITERS)
        settle(0)


def making_members(jobs: Sequence[Job]) -> int:
    """How many processes that make vectors fit into half of the memory that is free, by the largest tensor."""
    if sum(math.prod(job.shape) for job in jobs) < 2**20:
        return 1  # forking would take longer than it saves
    each = max(_making(job) for job in jobs)
    return int(max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // 2 // each)))


def _making(job: Job) -> int:
    return MAKING * math.prod(job.shape) * (len(job.parts) + 2)


def _bytes(assembly: Assembly, jobs: Sequence[Job]) -> int:
    one = METHODS[assembly.recipe.method].one_vector
    return sum(
        vector_dtype(assembly.base_dtype(job)).itemsize * math.prod(job.shape) * (1 if one else len(job.parts))
        for job in jobs
    )
