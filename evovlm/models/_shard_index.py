"""The index of a checkpoint in several files: which file each tensor is in. The same for safetensors and pickles.

Knows names and the index's format; reads no weights.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.models.model_files import is_there, read_object
from evovlm.system.bounded_json import shown
from evovlm.system.errors import CheckpointError

MOST_BYTES = 32 * 2**20  # of an index; the largest that we know has 10 MB, for 90,000 tensors


def read_index(path: Path, suffix: str) -> dict[str, str]:
    """The file's name by tensor key, as an index says; all are names of files in the index's own folder.

    suffix: of these files. Raises CheckpointError if the index is missing, damaged or empty, or points elsewhere.
    """
    names = (read_object(path, MOST_BYTES) or {}).get("weight_map")
    if not isinstance(names, dict):
        raise CheckpointError(f"{path}: has no `weight_map`, so it is not an index of shards; fetch it again")
    for key, name in names.items():
        # Do not let an index point to a file outside the folder.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(suffix) or "\0" in name:
            raise CheckpointError(
                f"{path}: {shown(key)} points to {shown(repr(name))}, which is not a {suffix} file in this folder"
            )
    if not names:
        raise CheckpointError(f"{path}: `weight_map` names no tensors; fetch it again")
    return names


def shards_of(folder: Path, weight_map: dict[str, str]) -> list[Path]:
    """The files that an index names, in its order.

    Raises CheckpointError if some are missing or not regular files.
    """
    shards = [folder / name for name in dict.fromkeys(weight_map.values())]
    missing = [shard.name for shard in shards if not is_there(shard)]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(shards)} shards are missing ({some}); finish the download"
        )
    return shards
