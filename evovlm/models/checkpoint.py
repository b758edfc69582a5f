"""Checkpoints as folders of safetensors files: opened, verified and mapped lazily. `checkpoint_writer` writes them.

Knows files, keys, shapes and dtypes; no towers, tokenizers or configurations. Pickles are never read.
Format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes; an index.json maps keys to shards.
"""

from __future__ import annotations

import json
import mmap
import struct
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evovlm.models.checkpoint_writer import DTYPE_CODES, CheckpointWriter, TensorInfo
from evovlm.models.foreign_files import foreign_files
from evovlm.models.pickled import PICKLES, has_shards, how_to_convert, is_pickled
from evovlm.system.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointWriter", "TensorInfo"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# The format's own limit; a larger value means that the file is not safetensors.
MOST_HEADER_BYTES = 100_000_000
# A clone made without Git LFS has small text files in place of the weights.
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}
_RESUME = "fetch the file again"
# Private writable mappings count as committed memory, so mapping a file larger than the machine's memory would be
# refused. We never write to them, so nothing need be reserved. (Python has this flag since 3.13; 0x4000 is Linux's.)
_UNPROMISED = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(frozen=True)
class _Entry:
    info: TensorInfo
    shard: Path
    offset: int  # bytes from the start of the file


@dataclass
class Checkpoint:
    """The tensors of one folder, by key. Open with `Checkpoint.open`; no data is read until `tensor` is called.

    Safe to read from several threads.
    """

    folder: Path
    _entries: dict[str, _Entry]
    _maps: dict[Path, mmap.mmap] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, folder: Path, model: str | None = None, revision: str | None = None) -> Checkpoint:
        """Find the folder's shards and verify each one: header, length, dtypes, index.

        `model`, `revision`: the hub id and revision of a folder in the hub's cache, for the commands that errors name.
        Raises CheckpointError, which names the file, if there are no safetensors files (pickles are refused), a shard
        is missing, a file is truncated or damaged, the index names missing keys, or a key is in two shards.
        """
        entries: dict[str, _Entry] = {}
        weight_map = None
        if (folder / SINGLE).is_file():
            _refuse_two(folder)
            shards = [folder / SINGLE]
        elif (folder / INDEX).is_file():
            weight_map = _read_index(folder / INDEX)
            shards = [folder / name for name in dict.fromkeys(weight_map.values())]
            _refuse_missing(folder / INDEX, shards)
        else:
            raise CheckpointError(_what_lies_there(folder, model, revision))
        for shard in shards:
            for info, offset in read_header(shard):
                if info.name in entries:
                    other = entries[info.name].shard.name
                    raise CheckpointError(f"{shard}: {info.name} is in {other} too; {_RESUME} and its index")
                entries[info.name] = _Entry(info, shard, offset)
        if weight_map is not None:
            _compare_index(folder / INDEX, weight_map, entries)
        if not entries:
            raise CheckpointError(f"{shards[0]} holds no tensors; {_RESUME}")
        return cls(folder, entries)

    def keys(self) -> list[str]:
        """The keys of all tensors, shard by shard, in header order."""
        return list(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one tensor, from the header. Raises CheckpointError if there is no such key."""
        return self._entry(key).info.shape

    def dtype(self, key: str) -> torch.dtype:
        """The stored dtype of one tensor, from the header. Raises CheckpointError if there is no such key."""
        return self._entry(key).info.dtype

    def tensor(self, key: str) -> Tensor:
        """One tensor, mapped from its file: pages are read when first accessed. Do not write to it.

        Raises CheckpointError if there is no such key or the file cannot be mapped.
        """
        entry = self._entry(key)
        info = entry.info
        if not info.nbytes:
            return torch.empty(info.shape, dtype=info.dtype)
        with self._lock:
            mapping = self._maps.get(entry.shard)
            if mapping is None:
                mapping = self._maps[entry.shard] = _map(entry.shard)
        if entry.offset % info.dtype.itemsize:  # rare: the writer did not pad the header
            raw = bytearray(memoryview(mapping)[entry.offset : entry.offset + info.nbytes])
            return torch.frombuffer(raw, dtype=info.dtype).reshape(info.shape)
        count = info.nbytes // info.dtype.itemsize
        return torch.frombuffer(mapping, dtype=info.dtype, count=count, offset=entry.offset).reshape(info.shape)

    @property
    def nbytes(self) -> int:
        """Total bytes of all tensors as stored."""
        return sum(entry.info.nbytes for entry in self._entries.values())

    def _entry(self, key: str) -> _Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise CheckpointError(f"{self.folder} has no tensor {key!r}") from None


def read_header(path: Path) -> list[tuple[TensorInfo, int]]:
    """The tensors that a safetensors file declares, with their byte offsets, verified against the file's length.

    Raises CheckpointError if it is not a safetensors file, is truncated, has overlapping or missing bytes, or an
    unknown dtype.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            if first == LFS_POINTER[:8]:
                raise CheckpointError(f"{path} is a Git LFS pointer, not the file; fetch it with `git lfs pull`")
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 2 <= length <= MOST_HEADER_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file (its header length is {length}); {_RESUME}")
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {_RESUME}") from error
    if len(header) < length:
        raise CheckpointError(f"{path} is truncated inside its header ({size} bytes); {_RESUME}")
    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_refuse_twice)
        table.pop("__metadata__", None)
        spans = sorted(
            (int(row["data_offsets"][0]), int(row["data_offsets"][1]), name, row) for name, row in table.items()
        )
        infos = {name: _info(path, name, row) for _, _, name, row in spans}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} has a damaged header ({error}); {_RESUME}") from error
    _verify_spans(path, [(start, stop, infos[name]) for start, stop, name, _ in spans], size - 8 - length)
    starts = {name: start for start, _, name, _ in spans}
    return [(infos[name], 8 + length + starts[name]) for name in table]


def _info(path: Path, name: str, row: dict[str, Any]) -> TensorInfo:
    dtype = _DTYPES.get(row["dtype"])
    if dtype is None:
        raise CheckpointError(f"{path}: {name} has the unknown dtype {row['dtype']}; known are {sorted(_DTYPES)}")
    shape = tuple(int(extent) for extent in row["shape"])
    if any(extent < 0 for extent in shape):
        raise ValueError(f"{name} has shape {list(shape)}")
    return TensorInfo(name, shape, dtype)


def _verify_spans(path: Path, spans: Iterable[tuple[int, int, TensorInfo]], data: int) -> None:
    """Check that the tensors' bytes have no gaps or overlaps and that the file ends with the last one."""
    end = 0
    for start, stop, info in spans:
        if start != end or stop - start != info.nbytes:
            raise CheckpointError(
                f"{path}: bytes {start}-{stop} cannot be {info.name} of shape {list(info.shape)}; {_RESUME}"
            )
        end = stop
    if end != data:
        kind = "is truncated" if end > data else "has bytes after its last tensor"
        raise CheckpointError(f"{path} {kind}: {data} bytes of data, but its header declares {end}; {_RESUME}")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = dict(weight_map)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not an index of shards ({error!r}); {_RESUME}") from error
    for key, name in names.items():
        # Do not let an index point to a file outside the folder.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {key} points to {name!r}, which is not a safetensors file in this folder")
    if not names:
        raise CheckpointError(f"{path} names no tensors; {_RESUME}")
    return names


def _refuse_missing(index: Path, shards: list[Path]) -> None:
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(shards)} shards are missing ({some}); finish the download"
        )


def _refuse_two(folder: Path) -> None:
    """Refuse model.safetensors beside the shards of an index: loaders would read the first without a word."""
    if not (folder / INDEX).is_file():
        return
    others = [name for name in dict.fromkeys(_read_index(folder / INDEX).values()) if name != SINGLE]
    if any((folder / name).is_file() for name in others):
        raise CheckpointError(
            f"{folder} holds two sets of weights: {SINGLE}, and the {len(others)} files that {INDEX} names; remove the"
            f" one that is not this model ({SINGLE} often remains from another save)"
        )


def _compare_index(index: Path, weight_map: dict[str, str], entries: dict[str, _Entry]) -> None:
    """Check that every key of the index is in its shard. (Shards may have more keys; loaders read those too.)"""
    absent = [key for key, name in weight_map.items() if key not in entries or entries[key].shard.name != name]
    if absent:
        raise CheckpointError(
            f"{index} names {len(absent)} keys that are not in their shards, the first is {absent[0]!r} in"
            f" {weight_map[absent[0]]}; fetch index and shards again from the same revision"
        )


def _map(shard: Path) -> mmap.mmap:
    """Map a file privately and writable, because torch requires writable buffers; writes would never reach the file."""
    try:
        with shard.open("rb") as file:
            flags = mmap.MAP_PRIVATE | _UNPROMISED
            return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{shard} cannot be mapped ({error}); {_RESUME}") from error


def has_weights(folder: Path) -> bool:
    """Whether a folder has safetensors weights under the usual names."""
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def _what_lies_there(folder: Path, model: str | None, revision: str | None) -> str:
    """An error message: why a folder is not a checkpoint, and what to do."""
    if not folder.is_dir():
        return f"{folder} is not a folder; give the folder with config.json and {SINGLE}"
    name = str(folder) if model is None else model
    if is_pickled(folder):
        command = how_to_convert(name, revision, fetch=model is not None and not has_shards(folder))
        return (
            f"{name} has only pickled weights, which can run any code when loaded; convert them once with"
            f" `{command}`, and name OUT in its place"
        )
    if foreign := foreign_files(folder):
        return f"{name} {foreign}"
    if others := sorted(path.name for path in folder.glob("*.safetensors")):
        return f"{folder} has {others[0]} but neither {SINGLE} nor {INDEX}; fetch the index too, or rename the file"
    return _nothing_there(folder, model, revision)


def _nothing_there(folder: Path, model: str | None, revision: str | None) -> str:
    """An error message for a folder without safetensors, and without another format that is known."""
    if model is not None:
        command = how_to_convert(model, revision, fetch=True)
        return (
            f"{model} has no {SINGLE} in the hub's cache ({folder}); fetch it with `hf download {model}`, or, if the"
            f" hub has its weights as .bin files alone, with `{command}`"
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} has only pickles ({pickles[0]}), which can run any code when loaded, and not under the names of"
            f" transformers, which `evovlm convert` reads; get a version with {SINGLE}"
        )
    return f"{folder} has no weights; expected {SINGLE}, or {INDEX} with its shards"
