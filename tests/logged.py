"""What a study's log holds, for comparing two runs of it."""

from pathlib import Path
from typing import Any

from evovlm.study import log as study_log
from evovlm.system import files


def logged_rows(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    found = list(files.read_rows(folder / study_log.TRIALS))
    for row in found:
        row.pop("seconds")
    return found
