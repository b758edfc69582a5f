"""Folder locks: only one process at a time may work in a study's or a benchmark run's folder.

Knows files and processes; not what a folder holds. The operating system releases the lock when its holder ends,
however it ends, so a killed run can be resumed at once.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from evovlm.system import files
from evovlm.system.bounded_files import Unreadable
from evovlm.system.bounded_json import read_json
from evovlm.system.errors import UserError

LOCK = ".lock"
# Separate from the lock file, because every process that tries to lock empties that file.
HOLDER = ".holder.json"
MOST_HOLDER = 10_000  # bytes


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes until the block ends; the folder is created if missing.

    Raises UserError, which names the holder, if another process holds the lock, or the lock is not a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    # A link would be followed and its target emptied; a pipe or a device is locked for nobody.
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise UserError(f"{path}: is not a file; remove it, and run the same command again")
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder}: another process is using this folder ({_holder(folder)});"
            " wait until it ends or stop it, or choose another folder with --out"
        ) from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        files.write_json(folder / HOLDER, {"process": os.getpid(), "machine": platform.node(), "since": since})
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """A text that names the process holding the lock."""
    try:
        known = read_json(folder / HOLDER, MOST_HOLDER)
        return f"process {known['process']} on {known['machine']}, since {known['since']}"
    except (OSError, Unreadable, ValueError, KeyError, TypeError):
        return "it has just started"
