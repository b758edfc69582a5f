"""Prepared task vectors in files: made once for each tensor, and mapped by all later merges of the same models.

Knows methods, tensors and their names; no assemblies, searches or live models. A file belongs to the bytes of the base
and the sources, the method and its own options: if one of them changes, or the file is damaged, it is made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evovlm.methods import METHODS, MergeOptions, Operand, PreparedSum, Tables, blaming_plugins
from evovlm.system.bounded_files import kind_of
from evovlm.system.errors import StudyError

# Part of each file's key; another number makes all vectors again, because they are computed or kept in another way.
VERSION = 3
CPU = torch.device("cpu")
KEY, CHECKSUM, PLACES = "key", "checksum", "places"


def unheard(text: str) -> None:
    """Do nothing with a sentence."""


@dataclass(frozen=True)
class Ask:
    """The vectors of one tensor: of which method and options, and of which base and sources, in source order.

    hashed: its key, if that is known.
    """

    name: str
    method: str
    options: MergeOptions
    base: Tensor
    sources: tuple[Tensor, ...]
    hashed: str | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """What the vectors depend on while the models stay the same."""
        return PreparedSum.wanted(self.method, self.options), self.name

    @cached_property
    def key(self) -> str:
        """The hash of all that the vectors depend on; reads every byte of base and sources."""
        if self.hashed is not None:
            return self.hashed
        own = None if self.options.own is None else self.options.own.model_dump(mode="json")
        about = [VERSION, self.method, own, self.options.averaged, str(self.base.dtype), list(self.base.shape)]
        digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=20)
        for tensor in (self.base, *self.sources):
            digest.update(str(tensor.dtype).encode())
            digest.update(_bytes(tensor))
        return digest.hexdigest()

    def made(self, device: torch.device) -> list[Tensor]:
        """The vectors, made on a device."""
        rule = METHODS[self.method].rule
        assert isinstance(rule, PreparedSum)
        with blaming_plugins(self.method, self.name):
            return rule.made(self.base.to(device), [source.to(device) for source in self.sources], self.options)


class VectorFiles:
    """The prepared vectors of one set of models: a file per method and tensor in `folder`, which is made if needed.

    tell: called with one sentence on each damaged file. Safe to use from several threads.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = unheard) -> None:
        self.folder = folder
        self._tell = tell
        self._mapped: dict[tuple[object, ...], list[Tensor]] = {}

    def known(self, method: str, options: MergeOptions, name: str) -> list[Tensor] | None:
        """The vectors of a tensor if they were found or made before, without reading anything."""
        return self._mapped.get((PreparedSum.wanted(method, options), name))

    def has_file(self, method: str, name: str) -> bool:
        """Whether a tensor's vectors have a file, which is not read and may be of other models."""
        return self._path(method, name).is_file()

    def find(self, ask: Ask) -> list[Tensor] | None:
        """The vectors, of the tensor's shape in source order, mapped from their file; None without a file."""
        found = self._mapped.get(ask.place)
        path = self._path(ask.method, ask.name)
        if found is None and path.is_file():
            found = self._read(path, ask.key, len(ask.sources), checked=True)
            if found is not None:
                self._mapped[ask.place] = found
        return found

    def make(self, ask: Ask, device: torch.device) -> list[Tensor]:
        """Make the vectors, write them, and return them as `find` does. Raises StudyError if they cannot be kept."""
        return self.keep(ask, ask.made(device))

    def keep(self, ask: Ask, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Write vectors that were made, on any device, and return them as `find` does. Raises as `make` does."""
        self._write(self._path(ask.method, ask.name), ask.key, vectors)
        return self.written(ask)

    def written(self, ask: Ask) -> list[Tensor]:
        """The vectors that this process or one of its forks has just written. Raises StudyError without them."""
        path = self._path(ask.method, ask.name)
        found = self._read(path, ask.key, len(ask.sources), checked=False)
        if found is None:
            raise StudyError(f"{path}: is not there any more; leave the folder alone while evovlm runs")
        self._mapped[ask.place] = found
        return found

    def get(self, ask: Ask, device: torch.device = CPU) -> list[Tensor]:
        """The vectors, found or made on a device. Raises StudyError if they cannot be kept."""
        return self.find(ask) or self.make(ask, device)

    def filled(self, ask: Ask, operands: Sequence[Operand]) -> list[Operand]:
        """The operands with the vectors in their tables; tables that hold them already are left as they are."""
        wanted = PreparedSum.wanted(ask.method, ask.options)
        tables = [operand.tables or Tables() for operand in operands]
        if any(one.prepared is None or one.prepared[0] != wanted for one in tables):
            for one, vector in zip(tables, self.get(ask), strict=True):
                one.prepared = (wanted, vector)
        return [replace(operand, tables=one) for operand, one in zip(operands, tables, strict=True)]

    def refuse_blocked(self, method: str, names: Iterable[str]) -> None:
        """Raise StudyError if something that is not ours stands where the folder, or a tensor's file, is to be."""
        for name in names:
            self._refuse_what_stands_at(self._path(method, name))

    def remove_all_but(self, method: str) -> None:
        """Delete the files of other methods, which are needed no longer."""
        if self.folder.is_dir():
            for path in self.folder.glob("*.safetensors"):
                if not path.name.startswith(f"{method}.") and not _folder(path):
                    path.unlink(missing_ok=True)
            if not self.folder.is_symlink() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _path(self, method: str, name: str) -> Path:
        return self.folder / f"{method}.{name}.safetensors"

    def _read(self, path: Path, key: str, count: int, *, checked: bool) -> list[Tensor] | None:
        """The vectors of a file; None if it is damaged or they were made of something else."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get(KEY) != key:
                    return None
                places = [int(place) for place in about[PLACES].split()]
                numbers = range(len(set(places)))
                if set(places) != set(numbers):
                    raise ValueError(f"`{PLACES}` are not the numbers of its tensors")
                distinct = [file.get_tensor(str(number)) for number in numbers]
        except (SafetensorError, OSError, ValueError, LookupError) as fault:
            self._tell(f"{path}: damaged ({fault}); made again")
            return None
        if len(places) != count or (checked and about.get(CHECKSUM) != _checksum(distinct, about[PLACES])):
            self._tell(f"{path}: damaged (it has another checksum); made again")
            return None
        return [distinct[place] for place in places]

    def _write(self, path: Path, key: str, vectors: Sequence[Tensor]) -> None:
        """Write vectors, those in the same memory only once; the file appears complete or not at all."""
        addresses = list(dict.fromkeys(vector.data_ptr() for vector in vectors))
        places = [addresses.index(vector.data_ptr()) for vector in vectors]
        distinct = [vectors[places.index(place)].cpu() for place in range(len(addresses))]
        told = " ".join(map(str, places))
        about = {KEY: key, CHECKSUM: _checksum(distinct, told), PLACES: told}
        scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({str(number): one for number, one in enumerate(distinct)}, scratch, metadata=about)
            os.replace(scratch, path)
        except (SafetensorError, OSError) as fault:
            with suppress(OSError):
                scratch.unlink()
            self._refuse_what_stands_at(path)
            raise StudyError(
                f"{path}: cannot be written ({fault}); {_step(fault)}, and run the same command again"
            ) from (fault)

    def _refuse_what_stands_at(self, path: Path) -> None:
        folder = self.folder
        for blocked, kind in ((folder, kind_of(folder) if not folder.is_dir() else ""), (path, _folder(path))):
            if kind:
                wanted = "the folder of task vectors" if blocked == folder else "a file of task vectors"
                raise StudyError(
                    f"{blocked}: is {kind}, where {wanted} is to be; remove it and run the same command again"
                )


def _folder(path: Path) -> str:
    """What a folder is called that stands where a file is to be; empty if none does. A link to one can be replaced."""
    return "a folder" if path.is_dir() and not path.is_symlink() else ""


def _step(fault: Exception) -> str:
    """What helps if a file cannot be written."""
    # safetensors tells an error of the system in its text alone.
    told = re.search(r"\(os error (\d+)\)", str(fault))
    number = fault.errno if isinstance(fault, OSError) else int(told[1]) if told else None
    if number == errno.EFBIG:
        return "it is larger than this process or the file system allows: raise `ulimit -f`"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make its folder one that you may write to"
    return "free space there" if number in (errno.ENOSPC, errno.EDQUOT, None) else "check the disk"


def _checksum(tensors: Sequence[Tensor], places: str) -> str:
    """A hash of all that is read from a file: its places, and each tensor's dtype, shape and bytes."""
    header = [places, *([str(tensor.dtype), list(tensor.shape)] for tensor in tensors)]
    digest = hashlib.blake2b(json.dumps(header).encode(), digest_size=20)
    for tensor in tensors:
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
