"""The quota of uploads: what each client has sent in the last hour, and the folder that all pictures lie in.

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
WEIGHED_EVERY = 1.0  # seconds for which the folder's weight is taken as known
# What an upload leaves that was cut off lies on top, named by nobody; finished pictures have folders of their own.
STRAY_AFTER = 300.0


@dataclass
class Upload:
    """One request: when it began, and what of it has come in. An empty one counts as a file."""

    began: float = field(default_factory=time.monotonic)
    nbytes: int = 0
    files: int = 1


class UploadQuota:
    """Counts what clients send, whether or not it is kept, so that nobody fills the disk with what is refused later.

    Pictures are deleted when they are an hour old, so what a client sends in an hour bounds what it keeps.
    """

    def __init__(self, folder: Path, allowance: Allowance) -> None:
        self._folder = folder
        self._allowance = allowance
        self._sent: dict[str, deque[Upload]] = {}
        self._weight = 0
        self._weighed = float("-inf")

    def begin(self, client: str) -> Upload:
        """A new upload of a client, to be counted up as it comes in."""
        self._prune()
        upload = Upload()
        self._sent.setdefault(client, deque()).append(upload)
        return upload

    def is_used_up(self, client: str, *, more_bytes: int = 0, more_files: int = 0) -> bool:
        """Whether that much more is beyond what the client may send in an hour."""
        oldest = time.monotonic() - HOUR
        sent = [upload for upload in self._sent.get(client, ()) if upload.began >= oldest]
        too_many = sum(upload.files for upload in sent) + more_files > self._allowance.hourly_files
        return too_many or sum(upload.nbytes for upload in sent) + more_bytes > self._allowance.hourly_bytes

    async def is_full(self) -> bool:
        """Whether the folder holds as much as it may."""
        if time.monotonic() - self._weighed > WEIGHED_EVERY:
            self._weighed = time.monotonic()
            self._weight = await asyncio.to_thread(weight, self._folder)
        return self._weight >= self._allowance.folder_bytes

    def _prune(self) -> None:
        """Forget uploads that are longer ago, and clients that have no other."""
        oldest = time.monotonic() - HOUR
        for client, sent in list(self._sent.items()):
            while sent and sent[0].began < oldest:
                sent.popleft()
            if not sent:
                del self._sent[client]


def weight(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except FileNotFoundError:
            continue  # deleted in between
    return total


def delete_strays(folder: Path) -> None:
    """Delete files that lie on top of the folder and that nobody has written to for a while."""
    for path in folder.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > STRAY_AFTER:
            path.unlink(missing_ok=True)
