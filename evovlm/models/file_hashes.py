"""Content hashes of a model's files: what tells whether a model is still the one that a study was started with.

Knows files and the hub cache's layout; no tensors. A model has gigabytes, so a file is read once: the hub's blobs are
named by their hash, and the hash of any other file is kept in the user's cache folder until the file changes.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from evovlm.system.errors import CheckpointError

# What decides how a model answers: weights, configurations, tokenizer, chat template.
PATTERNS = (
    *("*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"),
    "additional_chat_templates/*.jinja",
)
CACHE = "EVOVLM_CACHE"  # the environment variable that names another cache folder
CHUNK = 1 << 24
SHA256 = re.compile(r"[0-9a-f]{64}")
# A file that was written this recently may be written again within one tick of the file system's clock.
SETTLED = 2.0  # seconds


def model_hash(folder: Path) -> str:
    """A hash of the names and contents of a model's files: 32 hexadecimal digits. Model card and licence do not count.

    Raises CheckpointError if a file cannot be read.
    """
    found = blake2b(digest_size=16)
    for path in sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}):
        found.update(f"{path.relative_to(folder)}\0{file_hash(path)}\n".encode())
    return found.hexdigest()


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits: from the hub's name for it, from the cache, or read.

    Raises CheckpointError if the file cannot be read.
    """
    real = path.resolve()
    if _is_hub_blob(real):
        return real.name
    try:
        before = _stamp(real)
        known = _remembered(real, before)
        if known is not None:
            return known
        digest = _read(real)
        # Not kept if the file was written meanwhile, or so recently that its times may not show the next change.
        if _stamp(real) == before and time.time_ns() - max(before["mtime"], before["ctime"]) > SETTLED * 1e9:
            _remember(real, before, digest)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); fetch it again") from error
    return digest


def cache_folder() -> Path:
    """The user's cache folder: $EVOVLM_CACHE, else `evovlm` in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get(CACHE)
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "evovlm"


class Hashing:
    """Hashes of several models, computed by threads in the background, one per model; the caller goes on loading.

    The threads end with the process, so a process that is stopped meanwhile does not wait for them.
    """

    def __init__(self, folders: Mapping[str, Path], hash_of: Callable[[Path], str] = model_hash) -> None:
        self._found: dict[str, str | BaseException] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(label, folder, hash_of), daemon=True)
            for label, folder in folders.items()
        ]
        self._labels = list(folders)
        for thread in self._threads:
            thread.start()

    def result(self) -> dict[str, str]:
        """Wait for all hashes; returns them by label. Raises the first error of a model."""
        for thread in self._threads:
            thread.join()
        done = {}
        for label in self._labels:
            found = self._found[label]
            if isinstance(found, BaseException):
                raise found
            done[label] = found
        return done

    def _run(self, label: str, folder: Path, hash_of: Callable[[Path], str]) -> None:
        try:
            self._found[label] = hash_of(folder)
        except BaseException as error:  # raised again where the result is needed
            self._found[label] = error


def _is_hub_blob(real: Path) -> bool:
    """Whether a file is one of the hub cache's, which names large files by their SHA-256."""
    return (
        real.parent.name == "blobs"
        and real.parents[1].name.startswith("models--")
        and bool(SHA256.fullmatch(real.name))
    )


def _read(path: Path) -> str:
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            found.update(piece)
    return found.hexdigest()


def _stamp(path: Path) -> dict[str, Any]:
    """What changes with a file's content. Copying and restoring may keep the time of modification, but not ctime."""
    stat = path.stat()
    return {
        "path": str(path),
        "size": stat.st_size,
        "mtime": stat.st_mtime_ns,
        "ctime": stat.st_ctime_ns,
        "inode": [stat.st_dev, stat.st_ino],
    }


def _place(path: Path) -> Path:
    name = blake2b(str(path).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder() / "hashes" / f"{name}.json"


def _remembered(path: Path, stamp: Mapping[str, Any]) -> str | None:
    """The hash that was kept for a file; None if there is none, or the file has changed since."""
    try:
        kept = json.loads(_place(path).read_text(encoding="utf-8"))
        digest = kept.pop("sha256")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return digest if kept == stamp and isinstance(digest, str) and SHA256.fullmatch(digest) else None


def _remember(path: Path, stamp: Mapping[str, Any], digest: str) -> None:
    """Keep a file's hash. A cache folder that cannot be written only costs time."""
    place = _place(path)
    with suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump({**stamp, "sha256": digest}, file)
        os.replace(file.name, place)
