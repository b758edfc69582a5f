"""What a machine offers: memory, disks, limits of a process, shared memory. Each finding says what will not work.

Knows the system; no models, no libraries of ours.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

# ok; note: an optional part is absent; warning: something will not work; error: nothing much will.
Level = Literal["ok", "note", "warning", "error"]
GB = 10**9
MODEL_BYTES = 15 * GB  # a checkpoint of 7B parameters in bfloat16
LEAST_MEMORY = 4 * GB
LEAST_FILES = 1024
LEAST_SHARED = 256 * 10**6
SHARED = Path("/dev/shm")
# Where the kernel says what a container may use: version 2 of control groups, then version 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Finding:
    """One line of a check-up. `advice`: what will not work, and the next step; "" if all does."""

    name: str
    level: Level
    found: str
    advice: str = ""


def check_memory() -> Iterator[Finding]:
    """Memory that is free, and the limits on it."""
    memory = psutil.virtual_memory()
    free, text = memory.available, f"{_gb(memory.available)} of {_gb(memory.total)} free, {os.cpu_count()} cores"
    most = _container_limit()
    if most is not None and most < memory.total:
        free, text = min(free, most), f"{text}; this container may use {_gb(most)}"
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        free, text = min(free, soft), f"{text}; `ulimit -v` allows {_gb(soft)}"
        advice = "models are memory-mapped, which counts against it; raise it with `ulimit -v unlimited`"
        yield Finding("memory", "warning", text, advice)
    elif free < LEAST_MEMORY:
        advice = f"below {_gb(LEAST_MEMORY)} searches may be ended by the system; close other programs"
        yield Finding("memory", "warning", text, advice)
    else:
        yield Finding("memory", "ok", text)


def free_memory() -> int:
    """Bytes of memory that this process can still get."""
    free, most = psutil.virtual_memory().available, _container_limit()
    return free if most is None else min(free, most)


def check_disks() -> Iterator[Finding]:
    """Free space and the right to write in the working folder and in that for temporary files."""
    yield _disk("disk", Path.cwd(), "run evovlm in another folder, or free space", needed=MODEL_BYTES)
    try:
        scratch = Path(tempfile.gettempdir())
    except FileNotFoundError:
        yield Finding("temporary files", "error", "no folder can be written", "set TMPDIR to a folder that can")
        return
    yield _disk("temporary files", scratch, "set TMPDIR to another folder", needed=GB // 10)


def check_limits() -> Iterator[Finding]:
    """Open files, file sizes, shared memory, and what the terminal can show."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = "sharded checkpoints and Ray open many files; raise it with `ulimit -n 4096`"
    yield Finding("open files", *_rated(soft >= LEAST_FILES, f"at most {soft} (`ulimit -n`; up to {hard})", advice))
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY:
        advice = "larger weights cannot be written; raise it with `ulimit -f unlimited`, or merge with --max-shard-gb"
        yield Finding("file size", "warning", f"at most {_gb(size)} (`ulimit -f`)", advice)
    if sys.platform == "linux":
        shared = shutil.disk_usage(SHARED).free if SHARED.is_dir() else 0
        advice = f"`--ray` and parallel data need {_gb(LEAST_SHARED)}; start a container with --shm-size=1g"
        text = f"{_gb(shared)} free at {SHARED}"
        yield Finding("shared memory", *_rated(shared >= LEAST_SHARED and writable(SHARED) is None, text, advice))
    code = (sys.stdout.encoding or "ascii").lower()
    advice = "Japanese cannot be printed; set PYTHONUTF8=1"
    yield Finding("output", *_rated(code.replace("-", "") == "utf8", f"encoded in {code}", advice))


def writable(folder: Path) -> str | None:
    """Why no file can be written in a folder, or in the place where it would be made; None if one can."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there}: {error.strerror}"


def _disk(name: str, folder: Path, advice: str, *, needed: int) -> Finding:
    reason = writable(folder)
    if reason is not None:
        return Finding(name, "error", f"cannot be written ({reason})", f"nothing can be stored there; {advice}")
    free = shutil.disk_usage(folder).free
    lost = f"{_gb(needed)} would not fit (a 7B checkpoint)" if needed == MODEL_BYTES else f"{_gb(needed)} may be needed"
    return Finding(name, *_rated(free >= needed, f"{_gb(free)} free at {folder}", f"{lost}; {advice}"))


def _rated(fine: bool, found: str, advice: str) -> tuple[Level, str, str]:
    return ("ok", found, "") if fine else ("warning", found, advice)


def _container_limit() -> int | None:
    for path in CONTAINER_LIMITS:
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):  # absent, or "max"
            continue
    return None


def _gb(count: float) -> str:
    return f"{count / GB:,.1f} GB"


def crowding() -> float:
    """How many processes wanted each core, on average over the last minute; above 1, they took turns."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
