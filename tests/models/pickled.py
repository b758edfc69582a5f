"""Pickle checkpoints as the hub has them, and files that only pretend to be one."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.hub_layouts import make_tokenizer, save_llm

ROWS = 1000


def save_pickled(folder: Path, *, shards: int = 1, legacy: bool = False, **config: Any) -> dict[str, torch.Tensor]:
    """A small language model whose weights are `.bin` files, with an index if there are several."""
    save_llm(folder, rows=ROWS, tokenizer=make_tokenizer(ROWS), **config)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write_shards(folder, tensors, shards, legacy=legacy)
    return tensors


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], shards: int, *, legacy: bool = False) -> None:
    """The weight files that transformers wrote before safetensors."""
    names = [f"pytorch_model-{n + 1:05d}-of-{shards:05d}.bin" for n in range(shards)]
    names = ["pytorch_model.bin"] if shards == 1 else names
    weight_map = {key: names[n * shards // len(tensors)] for n, key in enumerate(sorted(tensors))}
    for name in names:
        held = {key: value for key, value in tensors.items() if weight_map[key] == name}
        torch.save(held, folder / name, _use_new_zipfile_serialization=not legacy)
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_zip(path: Path, content: bytes, how: int = zipfile.ZIP_STORED, **records: bytes) -> None:
    """torch's zip format with a pickle of one's own, and records in `data/`."""
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
        for name, data in records.items():
            archive.writestr(f"archive/data/{name}", data)


class Calls:
    """Pickled, it is a call of a function of one's choice by whoever loads it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def pickled(value: Any) -> bytes:
    """The protocol that torch.save uses."""
    return pickle.dumps(value, protocol=2)


def legacy(value: Any) -> bytes:
    """torch's format before 1.6, without storages: five pickles."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickled(part) for part in (*head, value, []))


def collisions(count: int) -> bytes:
    """A set of numbers with one hash: quadratic time in few bytes."""
    return pickled({"w": Calls(set, [factor * (2**61 - 1) for factor in range(count)])})
