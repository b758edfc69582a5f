"""Writes checkpoints tensor by tensor: headers first, then each tensor at its own offset, in any order.

Knows bytes and files; no models. The finished folder is renamed into place atomically.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import struct
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from evovlm.system.errors import CheckpointError

# The safetensors format's names (its specification, 0.4 and later).
DTYPE_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# One system call writes at most 0x7ffff000 bytes on Linux.
_MOST_AT_ONCE = 2**30
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (PermissionError, NotADirectoryError, FileExistsError)


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as stored."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _Place:
    info: TensorInfo
    file: Path
    offset: int


class CheckpointWriter:
    """Writes a sharded safetensors checkpoint to the new folder `out`.

    ```python
    with CheckpointWriter(out, [TensorInfo("model.norm.weight", (64,), torch.bfloat16)]) as writer:
        writer.write("model.norm.weight", torch.ones(64, dtype=torch.bfloat16))
        (writer.folder / "config.json").write_text("{}")
    ```
    No tensor is buffered, so memory does not grow with the shard, and a file is only open while a tensor is written. At
    the end of the block the files are synced to disk and the folder is renamed to `out`; on any exception, including
    Ctrl-C, it is removed.
    Raises CheckpointError if `out` exists, the disk has too little space (checked before the first byte, and whenever
    it runs out), or a tensor is declared twice, not written, written twice, or does not match its declaration.
    """

    def __init__(self, out: Path, infos: Sequence[TensorInfo], max_shard_bytes: int = 5 * 10**9) -> None:
        twice = [name for name, count in Counter(info.name for info in infos).items() if count > 1]
        if twice:
            raise CheckpointError(f"{out}: tensors declared twice: {twice}")
        self.out = out
        self.folder = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.partial"
        self._shards = _into_shards(infos, max_shard_bytes)
        self._needed = sum(info.nbytes for info in infos)
        self._places: dict[str, _Place] = {}
        self._files: list[Path] = []  # empty before the block and after it
        self._written: set[str] = set()
        self._writing = 0
        self._lock: int | None = None  # marks the folder as in use; the system releases it when the process ends
        self._idle = threading.Condition()

    def __enter__(self) -> Self:
        refuse_existing(self.out)
        try:
            with self._full_disk_named():
                self.out.parent.mkdir(parents=True, exist_ok=True)
                self._sweep()
                self._refuse_small_disk()
                self.folder.mkdir()
                self._lock = _locked(self.folder)
                self._lay_out()
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one declared tensor; from any thread, in any order, each once.

        Raises CheckpointError if it was not declared, does not match its declaration, was written before, or the
        checkpoint is closed.
        """
        place = self._place(name)
        found = (tuple(tensor.shape), tensor.dtype)
        if found != (place.info.shape, place.info.dtype):
            raise CheckpointError(f"{self.out}: {name} is {found}, declared as {(place.info.shape, place.info.dtype)}")
        with self._idle:
            if not self._files:
                raise CheckpointError(f"{self.out}: {name} was written after the checkpoint was closed")
            if name in self._written:
                raise CheckpointError(f"{self.out}: {name} was written twice")
            self._written.add(name)
            self._writing += 1
        try:
            with self._full_disk_named(), _opened(place.file, os.O_WRONLY) as descriptor:
                _write_at(descriptor, _as_bytes(tensor), place.offset)
        finally:
            with self._idle:
                self._writing -= 1
                self._idle.notify_all()

    def info(self, name: str) -> TensorInfo:
        """The declaration of one tensor. Raises CheckpointError if it was not declared."""
        return self._place(name).info

    def offset(self, name: str) -> int:
        """Where one tensor begins in its shard, in bytes. Raises CheckpointError if it was not declared."""
        return self._place(name).offset

    def note(self, name: str) -> None:
        """Count a tensor as written that a forked process wrote (with its copy of this writer)."""
        with self._idle:
            self._written.add(self._place(name).info.name)

    def _place(self, name: str) -> _Place:
        place = self._places.get(name)
        if place is None:
            raise CheckpointError(f"{self.out}: {name} was not declared")
        return place

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, OSError):
                with self._full_disk_named():  # the disk may also fill up while a config file is written
                    raise error
            if error is None:
                with self._full_disk_named():
                    self._finish()
        finally:
            self._discard()

    def _lay_out(self) -> None:
        """Create every shard at its full length, with its header, and the index."""
        weight_map: dict[str, str] = {}
        for number, infos in enumerate(self._shards, 1):
            count = len(self._shards)
            name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
            head, offsets = _header(infos)
            file = self.folder / name
            with _opened(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                self._files.append(file)
                os.ftruncate(descriptor, len(head) + sum(info.nbytes for info in infos))
                _write_at(descriptor, memoryview(head), 0)
            for info, offset in zip(infos, offsets, strict=True):
                self._places[info.name] = _Place(info, file, len(head) + offset)
                weight_map[info.name] = name
        if len(self._shards) > 1:
            index = {"metadata": {"total_size": self._needed}, "weight_map": dict(sorted(weight_map.items()))}
            text = json.dumps(index, indent=2) + "\n"
            (self.folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def _finish(self) -> None:
        missing = [name for name in self._places if name not in self._written]
        if missing:
            raise CheckpointError(f"{self.out}: {len(missing)} tensors were never written, first {missing[0]}")
        self._close(sync=True)
        for path in self.folder.rglob("*"):
            if path.is_file() and path.suffix != ".safetensors":
                _sync(path)
        _sync(self.folder)
        # rename would silently replace an empty folder that was created in the meantime
        if self.out.exists():
            raise CheckpointError(f"{self.out} was created by another process in the meantime; name another folder")
        self.folder.rename(self.out)
        _sync(self.out.parent)

    def _close(self, *, sync: bool) -> None:
        """Refuse further writes, wait until all have ended, and sync every shard."""
        with self._idle:
            files, self._files = self._files, []
            self._idle.wait_for(lambda: self._writing == 0)
        for file in files if sync else ():
            _sync(file)

    def _discard(self) -> None:
        """Remove the temporary folder, which no longer exists after a successful rename, and release its lock."""
        self._close(sync=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _sweep(self) -> None:
        """Remove temporary folders that killed writers of the same checkpoint left behind."""
        for left in self.out.parent.glob(f".{glob.escape(self.out.name)}.????????.partial"):
            lock = _locked(left)
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)

    def check_place(self) -> None:
        """Raise CheckpointError, as writing would, if `out` exists or the disk has too little space; writes nothing."""
        refuse_existing(self.out)
        self._refuse_small_disk()

    def _refuse_small_disk(self) -> None:
        there = next(folder for folder in self.out.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(there).free
        if free < self._needed:
            raise CheckpointError(f"{self._full()}; {free:,} bytes are free")

    def _full(self) -> str:
        return f"{self.out.parent}: the disk is full: the checkpoint needs {self._needed:,} bytes; free space first"

    @contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise CheckpointError(self._full()) from error
            if error.errno == errno.EFBIG:
                raise CheckpointError(
                    f"{self.out}: a weights file is larger than this process or the file system allows; raise `ulimit"
                    " -f`, or write smaller files with --max-shard-gb"
                ) from error
            if isinstance(error, _NO_PLACE) or error.errno == errno.EROFS:
                raise CheckpointError(f"{error.filename or self.out}: {error.strerror}; name another folder") from error
            raise


def refuse_existing(out: Path) -> None:
    """Raise CheckpointError if there is something under the name of a folder that is to be written."""
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out} exists; name another folder or remove it first")


def _locked(folder: Path) -> int | None:
    """Lock a folder and return the descriptor; None if another process has it, or the file system has no locks."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _into_shards(infos: Sequence[TensorInfo], most: int) -> list[list[TensorInfo]]:
    """Split tensors into shards of at most `most` bytes; a larger tensor gets its own shard. At least one shard."""
    shards: list[list[TensorInfo]] = [[]]
    size = 0
    for info in infos:
        if shards[-1] and size + info.nbytes > most:
            shards.append([])
            size = 0
        shards[-1].append(info)
        size += info.nbytes
    # Wide types first, so that every tensor is aligned to its element size.
    return [sorted(shard, key=lambda info: -info.dtype.itemsize) for shard in shards]


def _header(infos: Sequence[TensorInfo]) -> tuple[bytes, list[int]]:
    """A shard's leading bytes, and the offset of each tensor after them."""
    # transformers refuses files that do not name a framework.
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets = []
    end = 0
    for info in infos:
        offsets.append(end)
        end += info.nbytes
        table[info.name] = {
            "dtype": DTYPE_CODES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offsets[-1], end],
        }
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # make the data start at a multiple of eight bytes
    return struct.pack("<Q", len(text)) + text, offsets


def _as_bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_at(file: int, data: memoryview, offset: int) -> None:
    while len(data):
        count = os.pwrite(file, data[:_MOST_AT_ONCE], offset)
        data = data[count:]
        offset += count


def _sync(path: Path) -> None:
    with _opened(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)
