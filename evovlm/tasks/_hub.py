"""Read rows of data sets on the Hugging Face Hub through `datasets`.

Knows the hub's caches and when downloads are allowed; no tasks. Images stay bytes: our own code opens them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.system.errors import DataError
from evovlm.tasks.records import Row


@dataclass(frozen=True)
class HubSet:
    """A data set on the hub: its repository, and the configuration if it has several."""

    repository: str
    config: str | None = None

    @property
    def name(self) -> str:
        """Repository and configuration, for messages."""
        return self.repository if self.config is None else f"{self.repository} ({self.config})"


def hub_rows(hub: HubSet, split: str, *, download: bool, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of one of the hub's splits, in their order. `columns`: read only these.

    Without `download`, or under HF_HUB_OFFLINE, only the local caches are read and no connection is opened. Raises
    DataError, with the next step, if the data are not cached or cannot be read.
    """
    offline = not download or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline:
        table = _cached(hub, split)
    else:
        with _told(hub, split), _network(allowed=True):
            table = _load(hub.repository, hub, split)
    with _told(hub, split):
        return list(_rows(table, hub, split, columns))


def _cached(hub: HubSet, split: str) -> Any:
    """The split from the hub's cache, else from the cache of `datasets`. Raises DataError if neither has it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub.repository, repo_type="dataset", local_files_only=True)
    except LocalEntryNotFoundError:
        folder = None
    if folder is not None and _holds_data(Path(folder)):
        with _told(hub, split):
            # Streamed, because the files are already on disk and `datasets` would write a second copy.
            return _load(folder, hub, split, streaming=True)
    try:
        with _told(hub, split), _network(allowed=False):
            return _prepared(hub, split)
    except _Missing:
        raise DataError(
            f"{hub.name}: not in the local caches ({_caches()}); fetch it with `hf download --repo-type dataset"
            f" {hub.repository}`, allow the download with --download, or name a local copy as TASK@PATH:SPLIT"
        ) from None


class _Missing(DataError):
    """The cache of `datasets` does not have the split."""


def _prepared(hub: HubSet, split: str) -> Any:
    """The split as `datasets` cached it at an earlier load. Raises _Missing if there was none."""
    try:
        return _load(hub.repository, hub, split)
    except (ConnectionError, FileNotFoundError) as error:  # offline, it asks the hub only for what it does not have
        raise _Missing(str(error)) from error


def _load(where: str, hub: HubSet, split: str, *, streaming: bool = False) -> Any:
    import datasets

    table = datasets.load_dataset(where, name=hub.config, split=split, streaming=streaming)
    for name, feature in (table.features or {}).items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table


def _rows(table: Any, hub: HubSet, split: str, columns: Sequence[str] | None) -> Iterator[Row]:
    if columns is not None:
        table = table.select_columns(list(columns))
    for number, row in enumerate(table, start=1):
        yield Row(row, f"{hub.name}, {split}: row {number}")


def _holds_data(folder: Path) -> bool:
    """Whether a snapshot holds more than the card, which is downloaded first and may be all there is."""
    return any(path.is_file() and path.name not in ("README.md", ".gitattributes") for path in folder.rglob("*"))


@contextmanager
def _told(hub: HubSet, split: str) -> Iterator[None]:
    """Turn any failure inside (connection, permission, layout, broken file) into a DataError with one message."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # `datasets` and its file readers raise nearly anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{hub.name}: its split {split!r} cannot be read through `datasets` ({reason[0]}); check that the hub is"
            f" reachable and the cache is intact ({_caches()}), or name a local copy as TASK@PATH:SPLIT"
        ) from None


@contextmanager
def _network(*, allowed: bool) -> Iterator[None]:
    """Restrict `datasets` to its caches, or to the hub alone: by default it also counts loads at another host."""
    import datasets

    wanted = {"HF_HUB_OFFLINE": not allowed, "HF_UPDATE_DOWNLOAD_COUNTS": False}
    before = {name: getattr(datasets.config, name) for name in wanted}
    vars(datasets.config).update(wanted)
    try:
        yield
    finally:
        vars(datasets.config).update(before)


def _caches() -> str:
    import datasets
    from huggingface_hub import constants

    return f"{constants.HF_HUB_CACHE}, {datasets.config.HF_DATASETS_CACHE}"
