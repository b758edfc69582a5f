"""How the hub's cache names its folders: `models--OWNER--NAME/snapshots/COMMIT`.

Knows names only; opens and downloads nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

SNAPSHOTS = "snapshots"
COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(folder: Path) -> str | None:
    """The commit of a snapshot in the hub's cache, whose folder has that name; None for any other folder."""
    return folder.name if folder.parent.name == SNAPSHOTS and COMMIT.fullmatch(folder.name) else None
