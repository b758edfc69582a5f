"""Where a model's folder comes from: how the hub's cache names its folders, and what a converted copy says of itself.

A snapshot in the cache is `models--OWNER--NAME/snapshots/COMMIT`. Opens no connection.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from evovlm.system.bounded_files import Unreadable
from evovlm.system.bounded_json import read_json
from evovlm.system.errors import CheckpointError

SNAPSHOTS = "snapshots"
COMMIT = re.compile(r"[0-9a-f]{40}")
# A converted copy's file that names what was converted: `model` and, if it came from the hub's cache, `commit`.
CONVERTED = "converted_from.json"
MOST_BYTES = 2**20  # of this file


class Origin(NamedTuple):
    """A repository on the hub, and one of its commits."""

    repository: str
    commit: str


def commit_of(folder: Path) -> str | None:
    """The commit of a snapshot in the hub's cache, whose folder has that name; None for any other folder."""
    return folder.name if folder.parent.name == SNAPSHOTS and COMMIT.fullmatch(folder.name) else None


def origin_of(folder: Path) -> Origin | None:
    """The repository and commit that a folder is a snapshot of, or was converted from; None if it does not say.

    Raises CheckpointError if the file that says so is damaged.
    """
    commit = commit_of(folder)
    if commit is not None:
        parts = folder.parents[1].name.split("--", 2)
        return Origin("/".join(parts[1:]), commit) if len(parts) > 1 else None
    try:
        told = read_json(folder / CONVERTED, MOST_BYTES)
        model, commit = told["model"], told["commit"]
    except FileNotFoundError:
        return None
    except Unreadable as error:
        raise CheckpointError(f"{error}; convert the model again, or delete this file") from None
    except (LookupError, TypeError):
        raise CheckpointError(
            f"{folder / CONVERTED}: must have `model` and `commit`; convert the model again, or delete this file"
        ) from None
    named = isinstance(model, str) and isinstance(commit, str) and COMMIT.fullmatch(commit)
    return Origin(model, commit) if named else None
