"""Which files a pickle checkpoint is made of: `pytorch_model.bin`, or shards with their index.

Knows names and the index; reads no weights.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from evovlm.models._shard_index import read_index, shards_of
from evovlm.models.model_files import is_there
from evovlm.system.errors import CheckpointError

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
# What to fetch of a hub repository for a conversion, besides configuration and tokenizer.
WEIGHTS = ("pytorch_model.bin", "pytorch_model-*.bin", INDEX)
NO_GGUF = "is in GGUF, a format of quantised weights that is not read; take the model's safetensors checkpoint"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class PickledFiles:
    """The weight files of a pickle checkpoint, and which file its index says each tensor is in (empty: no index)."""

    shards: tuple[Path, ...]
    weight_map: dict[str, str]

    @property
    def nbytes(self) -> int:
        """Total bytes of the files."""
        return sum(path.stat().st_size for path in self.shards)


def find_pickled(folder: Path) -> PickledFiles:
    """The files of the pickle checkpoint in a folder.

    Raises CheckpointError if there is none, the index is damaged or points outside the folder, a shard is missing, or a
    file is not a regular one.
    """
    weight_map: dict[str, str] = {}
    shards = [folder / SINGLE]
    if not is_there(folder / SINGLE):
        if not is_there(folder / INDEX):
            found = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
            seen = f"; it has {', '.join(found[:3])}, which is not a name of transformers" if found else ""
            raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}{seen}; give a folder with one of them")
        weight_map = read_index(folder / INDEX, ".bin")
        shards = shards_of(folder, dict(sorted(weight_map.items(), key=lambda entry: entry[1])))
    return PickledFiles(tuple(shards), weight_map)


def is_pickled(folder: Path) -> bool:
    """Whether a folder has a pickle checkpoint, or the index of one whose shards were not fetched."""
    return (folder / SINGLE).exists() or (folder / INDEX).exists()


def has_shards(folder: Path) -> bool:
    """Whether a folder has any weight file of a pickle checkpoint."""
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS if pattern != INDEX)


def how_to_convert(model: str, revision: str | None = None, *, fetch: bool = False) -> str:
    """The command that converts a model. `fetch`: its weights are not on this machine yet."""
    words = ["evovlm", "convert", model, "OUT", *(["--revision", revision] if revision else [])]
    return shlex.join(words + (["--download"] if fetch else []))
