"""Upload quotas: per client and hour, and for the folder of all images.

Knows the folder and numbers; no HTTP and no gradio.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from evovlm_app.load.allowance import Allowance

HOUR = 3600.0
WEIGHED_EVERY = 1.0  # seconds for which the folder's measured size is reused
# Interrupted uploads leave files at the top level of the folder; finished images are in subfolders.
STRAY_AFTER = 300.0  # seconds without a write


@dataclass
class Upload:
    """One upload request: its start time, and what has arrived so far. An empty one counts as one file."""

    began: float = field(default_factory=time.monotonic)
    nbytes: int = 0
    files: int = 1


class UploadQuota:
    """Counts what clients send, including refused uploads, so that these cannot fill the disk either.

    Images are deleted when they are an hour old, so the hourly quota also limits what a client keeps on disk.
    """

    def __init__(self, folder: Path, allowance: Allowance) -> None:
        self._folder = folder
        self._allowance = allowance
        self._sent: dict[str, deque[Upload]] = {}
        self._weight = 0
        self._weighed = float("-inf")

    def begin(self, client: str) -> Upload:
        """Register a new upload of a client; the caller updates its counts as it arrives."""
        self._prune()
        upload = Upload()
        self._sent.setdefault(client, deque()).append(upload)
        return upload

    def is_used_up(self, client: str, *, more_bytes: int = 0, more_files: int = 0) -> bool:
        """Whether the client's uploads of the last hour, plus `more_bytes` and `more_files`, exceed its quota."""
        oldest = time.monotonic() - HOUR
        sent = [upload for upload in self._sent.get(client, ()) if upload.began >= oldest]
        too_many = sum(upload.files for upload in sent) + more_files > self._allowance.hourly_files
        return too_many or sum(upload.nbytes for upload in sent) + more_bytes > self._allowance.hourly_bytes

    async def is_full(self) -> bool:
        """Whether the folder has reached its size limit."""
        if time.monotonic() - self._weighed > WEIGHED_EVERY:
            self._weighed = time.monotonic()
            self._weight = await asyncio.to_thread(weight, self._folder)
        return self._weight >= self._allowance.folder_bytes

    def _prune(self) -> None:
        """Forget uploads older than an hour, and clients without any other."""
        oldest = time.monotonic() - HOUR
        for client, sent in list(self._sent.items()):
            while sent and sent[0].began < oldest:
                sent.popleft()
            if not sent:
                del self._sent[client]


def weight(folder: Path) -> int:
    """Total bytes of all files under a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except FileNotFoundError:
            continue  # deleted in between
    return total


def delete_strays(folder: Path) -> None:
    """Delete files at the top level of the folder that were last written more than STRAY_AFTER seconds ago."""
    for path in folder.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > STRAY_AFTER:
            path.unlink(missing_ok=True)
