"""Checkpoints as folders of safetensors files: opened, verified and mapped lazily. `checkpoint_writer` writes them.

Knows files, keys, shapes and dtypes; no towers, tokenizers or configurations. Pickles are never read.
Format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes; an index.json maps keys to shards.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evovlm.models._header import RESUME, read_header
from evovlm.models._mapping import mapped
from evovlm.models._pickled import PICKLES, has_shards, how_to_convert, is_pickled
from evovlm.models._shard_index import read_index, shards_of
from evovlm.models.checkpoint_writer import CheckpointWriter, TensorInfo
from evovlm.models.file_spans import FileSpan
from evovlm.models.foreign_files import foreign_files
from evovlm.models.model_files import is_there
from evovlm.system.bounded_files import Unreadable
from evovlm.system.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointWriter", "TensorInfo"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


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
    _maps: dict[Path, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, folder: Path, model: str | None = None, revision: str | None = None) -> Checkpoint:
        """Find the folder's shards and verify each one: header, length, dtypes, index.

        `model`, `revision`: the hub id and revision of a folder in the hub's cache, for the commands that errors name.
        Raises CheckpointError, which names the file, if there are no safetensors files (pickles are refused), a shard
        is missing, a file is truncated or damaged, the index names missing keys, a key is in two shards, or a single
        file lies beside an index.
        """
        entries: dict[str, _Entry] = {}
        weight_map = None
        if is_there(folder / INDEX):
            weight_map = read_index(folder / INDEX, ".safetensors")
            _refuse_stray(folder, weight_map)
            shards = shards_of(folder, weight_map)
        elif is_there(folder / SINGLE):
            shards = [folder / SINGLE]
        else:
            raise CheckpointError(_what_lies_there(folder, model, revision))
        for shard in shards:
            for info, offset in read_header(shard):
                if info.name in entries:
                    other = entries[info.name].shard.name
                    raise CheckpointError(f"{shard}: {info.name} is in {other} too; {RESUME} and its index")
                entries[info.name] = _Entry(info, shard, offset)
        if weight_map is not None:
            _compare_index(folder / INDEX, weight_map, entries)
        if not entries:
            raise CheckpointError(f"{shards[0]} holds no tensors; {RESUME}")
        return cls(folder, entries)

    def keys(self) -> list[str]:
        """The keys of all tensors, shard by shard, in header order."""
        return list(self._entries)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors, by key, from the headers."""
        return {key: entry.info.shape for key, entry in self._entries.items()}

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one tensor, from the header. Raises CheckpointError if there is no such key."""
        return self._entry(key).info.shape

    def dtype(self, key: str) -> torch.dtype:
        """The stored dtype of one tensor, from the header. Raises CheckpointError if there is no such key."""
        return self._entry(key).info.dtype

    def span(self, key: str) -> FileSpan:
        """Where one tensor's bytes are. Raises CheckpointError if there is no such key."""
        entry = self._entry(key)
        return FileSpan(entry.shard, entry.offset, entry.info.nbytes)

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


def _refuse_stray(folder: Path, weight_map: dict[str, str]) -> None:
    """Refuse a single file beside an index of others: transformers would read that file alone, without a word."""
    if SINGLE not in weight_map.values() and (folder / SINGLE).exists():
        first = next(iter(weight_map.values()))
        raise CheckpointError(
            f"{folder}: has {SINGLE} beside {INDEX}, which names other files ({first}); delete or move away whichever"
            " does not belong to the model"
        )


def _compare_index(index: Path, weight_map: dict[str, str], entries: dict[str, _Entry]) -> None:
    """Check that every key of the index is in its shard. (Shards may have more keys; loaders read those too.)"""
    absent = [key for key, name in weight_map.items() if key not in entries or entries[key].shard.name != name]
    if absent:
        raise CheckpointError(
            f"{index} names {len(absent)} keys that are not in their shards, the first is {absent[0]!r} in"
            f" {weight_map[absent[0]]}; fetch index and shards again from the same revision"
        )


def _map(shard: Path) -> Any:
    try:
        return mapped(shard)
    except (OSError, Unreadable) as error:
        raise CheckpointError(f"{shard} cannot be mapped ({error}); {RESUME}") from error


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
