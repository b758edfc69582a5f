"""A user's choices for a task: where its data is, its preset, and how numbers and language are judged.

Knows no tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evovlm.system.errors import DataError
from evovlm.system.files import counted_from
from evovlm.tasks._hub import HubSet, hub_rows
from evovlm.tasks.metrics.language import DETECTOR_NAME, Detector, is_japanese
from evovlm.tasks.metrics.numbers import NumberScoring
from evovlm.tasks.records import Row, read_rows


@dataclass(frozen=True)
class Options:
    """`path`: file or folder with the data; None: the hub's caches, which are only filled if `download` is set.

    `scoring` overrides how the preset reads numbers. `japanese` detects Japanese; `detector` is its name in reports.
    `revisions`: the branch, tag or commit to read of a data set on the hub, by repository; by default its main branch.
    `whole_pictures`: if a part of a split is drawn, draw pictures, each with all its questions.
    `commits`: filled while items are read, with the commit of each data set that came from the hub. `root`: a preset's
    file counts from it; None: the working directory.
    """

    path: Path | None = None
    preset: str | None = None
    scoring: NumberScoring | None = None
    download: bool = False
    japanese: Detector = is_japanese
    detector: str = DETECTOR_NAME
    revisions: Mapping[str, str] = field(default_factory=dict, hash=False)
    commits: dict[str, str] = field(default_factory=dict, compare=False)
    root: Path | None = None
    whole_pictures: bool = False

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", counted_from(Path(), self.path))

    def rows(
        self, hub: HubSet, split: str, patterns: tuple[str, ...], columns: Sequence[str] | None = None
    ) -> list[Row]:
        """The rows of the hub's `split`, or of the files at `path` that match the first successful pattern.

        `columns`: read only these. Raises DataError, with the next step, if the data are missing or unreadable.
        """
        if self.path is None:
            revision = self.revisions.get(hub.repository)
            found = hub_rows(hub, split, download=self.download, columns=columns, revision=revision)
            if found.commit is not None:
                self.commits[hub.repository] = found.commit
            return found.rows
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder; give the path to the data of {hub.name}")
        return [row for path in files_at(self.path, patterns) for row in read_rows(path, columns)]


def files_at(where: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The file itself, or a folder's files that match the first successful pattern. Raises DataError if none match."""
    if not where.is_dir():  # what is no regular file is refused when it is opened
        return [where]
    for pattern in patterns:
        found = sorted(where.glob(pattern))
        if found:
            return found
    raise DataError(f"{where}: no file matches {list(patterns)}; give the data set's folder or file")
