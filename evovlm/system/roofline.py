"""The hardware limits, measured on the machine where they are compared: memory bandwidth and matrix throughput.

Knows torch and devices. Uses random data, because matrices of zeros multiply faster than real ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from evovlm.system.device import current_gpu

GPU_COPY = 4 << 30  # bytes, many times the cache size
CPU_COPY = 256 << 20
GPU_MATRIX = 8192
CPU_MATRIX = 1024


@dataclass(frozen=True)
class Rates:
    """copy: bytes per second, reads and writes both counted. matrix: floating-point operations per second in `dtype`.

    upload: bytes per second from pinned host memory to the device; None on a CPU.
    """

    device: str
    copy: float
    matrix: float
    dtype: str
    upload: float | None

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dict, for JSON."""
        return asdict(self)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int, warm: int = 2) -> list[float]:
    """Seconds of each of `repeats` runs, after `warm` warm-up runs; measured with CUDA events on a GPU."""
    for _ in range(warm):
        work()
    if device.type != "cuda":
        return [_wall(work) for _ in range(repeats)]
    with current_gpu(device):
        torch.cuda.synchronize()
        marks = [(_event(), _event()) for _ in range(repeats)]
        for start, stop in marks:
            start.record()
            work()
            stop.record()
        torch.cuda.synchronize()
    return [start.elapsed_time(stop) / 1000 for start, stop in marks]


def wall_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall-clock seconds of each of `repeats` runs; the device is synchronised before and after."""
    found = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return found


def measure_rates(device: torch.device) -> Rates:
    """Measure the copy rate, the matrix rate and, on a GPU, the upload rate; each from a median time."""
    cuda = device.type == "cuda"
    copy, upload = _copy_rates(device)
    side = GPU_MATRIX if cuda else CPU_MATRIX
    dtype = torch.bfloat16 if cuda else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    matrix = 2 * side**3 / statistics.median(seconds_of(lambda: left @ right, device, 10, warm=3))
    return Rates(str(device), copy, matrix, str(dtype).removeprefix("torch."), upload)


def _copy_rates(device: torch.device) -> tuple[float, float | None]:
    """Bytes per second on the device, and from pinned host memory to it (None on a CPU)."""
    nbytes = GPU_COPY if device.type == "cuda" else CPU_COPY
    source = torch.randint(256, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * nbytes / statistics.median(seconds_of(lambda: target.copy_(source), device, 10))
    if device.type != "cuda":
        return copy, None
    pinned = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)
    moved = target[: len(pinned)]
    seconds = statistics.median(seconds_of(lambda: moved.copy_(pinned, non_blocking=True), device, 5))
    return copy, len(pinned) / seconds


def _wall(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
