"""What a user may choose about a task beside its name: where its data lies, how it asks, how language is told.

Knows no tasks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evovlm.errors import DataError
from evovlm.metrics.language import DETECTOR_NAME, Detector, is_japanese
from evovlm.metrics.numbers import NumberScoring


@dataclass(frozen=True)
class Options:
    """`path`: a file or folder of the data; None: the hub's cache, filled only with `download`.

    `scoring` overrides the preset's way to read numbers. `detector` names what tells Japanese, for reports.
    """

    path: Path | None = None
    preset: str | None = None
    scoring: NumberScoring | None = None
    download: bool = False
    japanese: Detector = is_japanese
    detector: str = DETECTOR_NAME

    def locate(self, repository: str, wanted: tuple[str, ...], revision: str | None = None) -> Path:
        """The folder or file of a data set. Raises DataError that names the next step."""
        if self.path is None:
            return _from_hub(repository, wanted, revision, download=self.download)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder; give where the data of {repository} lies")
        return self.path


def files_at(where: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The file itself, or the files of a folder that the first matching pattern finds. Raises DataError."""
    if where.is_file():
        return [where]
    for pattern in patterns:
        found = sorted(where.glob(pattern))
        if found:
            return found
    raise DataError(f"{where}: none of {list(patterns)} is there; give the folder or file of the data set")


def _from_hub(repository: str, wanted: tuple[str, ...], revision: str | None, *, download: bool) -> Path:
    """The snapshot in the hub's cache, where `datasets` keeps its files too."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = not download or os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        found = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            local_files_only=offline,
            allow_patterns=list(wanted),
        )
    except LocalEntryNotFoundError:
        raise DataError(
            f"{repository}: not in the local hub cache; fetch it with `hf download --repo-type dataset {repository}`,"
            " allow it with --download, or name a local copy as TASK@PATH:SPLIT"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(f"{repository} cannot be fetched from the hub: {error}") from None
    return Path(found)
