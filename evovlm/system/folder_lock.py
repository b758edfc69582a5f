"""Folders that one process at a time works in: a study's, a benchmark run's.

Knows files and processes; nothing of what a folder holds. The operating system drops the lock when its holder ends,
however it ends, so what was killed can be taken up at once.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from evovlm.system import files
from evovlm.system.errors import UserError

LOCK = ".lock"
# Apart from the lock itself, whose file every process that tries it empties.
HOLDER = ".holder.json"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if need be, until the block ends.

    Raises UserError that names the holder where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder}: another process works in this folder ({_holder(folder)});"
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
    """Who holds the lock, in words."""
    try:
        known = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {known['process']} on {known['machine']}, since {known['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"
