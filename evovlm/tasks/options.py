"""What a user may choose about a task beside its name: where its data lies, how it asks, how language is told.

Knows no tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evovlm.system.errors import DataError
from evovlm.tasks._hub import HubSet, hub_rows
from evovlm.tasks.metrics.language import DETECTOR_NAME, Detector, is_japanese
from evovlm.tasks.metrics.numbers import NumberScoring
from evovlm.tasks.records import Row, read_rows


@dataclass(frozen=True)
class Options:
    """`path`: a file or folder of the data; None: the hub's caches, filled only with `download`.

    `scoring` overrides the preset's way to read numbers. `detector` names what tells Japanese, for reports.
    """

    path: Path | None = None
    preset: str | None = None
    scoring: NumberScoring | None = None
    download: bool = False
    japanese: Detector = is_japanese
    detector: str = DETECTOR_NAME

    def rows(
        self, hub: HubSet, split: str, patterns: tuple[str, ...], columns: Sequence[str] | None = None
    ) -> list[Row]:
        """The rows of the hub's `split`, or of the files that the first matching pattern finds at `path`.

        `columns`: the only ones that are wanted. Raises DataError that names the next step.
        """
        if self.path is None:
            return hub_rows(hub, split, download=self.download, columns=columns)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder; give where the data of {hub.name} lies")
        return [row for path in files_at(self.path, patterns) for row in read_rows(path, columns)]


def files_at(where: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The file itself, or the files of a folder that the first matching pattern finds. Raises DataError."""
    if where.is_file():
        return [where]
    for pattern in patterns:
        found = sorted(where.glob(pattern))
        if found:
            return found
    raise DataError(f"{where}: none of {list(patterns)} is there; give the folder or file of the data set")
