"""Which files a pickle checkpoint is made of: `pytorch_model.bin`, or shards with their index.

Knows names and the index; reads no weights.
"""

from __future__ import annotations

import json
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from evovlm.system.errors import CheckpointError

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
# What to fetch of a hub repository for a conversion, besides configuration and tokenizer.
WEIGHTS = ("pytorch_model.bin", "pytorch_model-*.bin", INDEX)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MOST_INDEX_BYTES = 100_000_000


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
    if not (folder / SINGLE).exists():
        if not (folder / INDEX).exists():
            found = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
            seen = f"; it has {', '.join(found[:3])}, which is not a name of transformers" if found else ""
            raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}{seen}; give a folder with one of them")
        weight_map = _read_index(folder / INDEX)
        shards = [folder / name for name in sorted(set(weight_map.values()))]
    missing = [path.name for path in shards if not path.exists()]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(shards)} shards are missing ({some}); finish the download"
        )
    for path in shards:
        _refuse_irregular(path)
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


def _read_index(path: Path) -> dict[str, str]:
    _refuse_irregular(path)
    if path.stat().st_size > MOST_INDEX_BYTES:
        raise CheckpointError(f"{path} is too large for an index ({path.stat().st_size:,} bytes); fetch it again")
    try:
        names = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not an index of shards ({str(error) or error!r:.200}); fetch it again"
        ) from error
    for key, name in names.items():
        # Do not let an index point to a file outside the folder.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".bin"):
            raise CheckpointError(f"{path}: {key} points to {name!r:.100}, which is not a .bin file in this folder")
    if not names:
        raise CheckpointError(f"{path} names no tensors; fetch it again")
    return names


def _refuse_irregular(path: Path) -> None:
    """Refuse a FIFO, a device or a folder, which would hang or never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError(f"{path} is not a regular file; fetch it again")
