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
from evovlm.system.hub_cache import COMMIT
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


@dataclass(frozen=True)
class HubRows:
    """The rows of a split, and the commit of the repository that they come from (None if it cannot be known)."""

    rows: list[Row]
    commit: str | None


def hub_rows(
    hub: HubSet, split: str, *, download: bool, columns: Sequence[str] | None = None, revision: str | None = None
) -> HubRows:
    """The rows of one of the hub's splits, in their order. `columns`: read only these. `revision`: None is main.

    Without `download`, or under HF_HUB_OFFLINE, only the local caches are read and no connection is opened. Raises
    DataError, with the next step, if the data are not cached in this revision or cannot be read.
    """
    if not download or _offline():
        table, folder = _cached(hub, split, revision)
    else:
        with _faults_as_data_errors(hub, split), _network(allowed=True):
            table, folder = _load(hub.repository, hub, split, revision=revision), None
    with _faults_as_data_errors(hub, split):
        rows = list(_rows(table, hub, split, columns, folder or Path()))
        return HubRows(rows, _prepared_commit(table) if folder is None else folder.name)


def cached_commit(hub: HubSet, revision: str | None) -> str | None:
    """The commit at which the local caches would be read; None if they do not have the data set in this revision."""
    import datasets

    folder = _snapshot(hub.repository, revision)
    if folder is not None and _holds_data(folder):
        return folder.name
    try:
        with _network(allowed=False):
            found = str(datasets.load_dataset_builder(hub.repository, name=hub.config).hash)
    except Exception:  # `datasets` raises nearly anything for what it does not have
        return None
    wanted = folder.name if folder is not None else revision
    return found if COMMIT.fullmatch(found) and (revision is None or found == wanted) else None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _snapshot(repository: str, revision: str | None) -> Path | None:
    """The folder of a revision in the hub's cache, named by its commit; None if it is not there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=True))
    except OSError:  # not cached, not complete, or a revision that is no name
        return None


def _cached(hub: HubSet, split: str, revision: str | None) -> tuple[Any, Path | None]:
    """The split from the hub's cache, with its folder, else from the cache of `datasets`.

    Raises DataError if neither has it in this revision.
    """
    folder = _snapshot(hub.repository, revision)
    if folder is not None and _holds_data(folder):
        with _faults_as_data_errors(hub, split):
            # Streamed, because the files are already on disk and `datasets` would write a second copy.
            return _load(str(folder), hub, split, streaming=True), folder
    try:
        with _faults_as_data_errors(hub, split), _network(allowed=False):
            table = _prepared(hub, split)
    except _Missing:
        at = f" --revision {revision}" if revision else ""
        raise DataError(
            f"{hub.name}: {f'revision {revision} is ' if revision else ''}not in the local caches ({_caches()}); fetch"
            f" it with `hf download --repo-type dataset {hub.repository}{at}`, allow the download with --download, or"
            " name a local copy as TASK@PATH:SPLIT"
        ) from None
    wanted, found = folder.name if folder is not None else revision, _prepared_commit(table)
    if revision is not None and found != wanted:
        # `datasets` has no way to ask its cache for a revision: it always gives what it prepared last.
        raise DataError(
            f"{hub.name}: revision {revision} is wanted, but the cache of `datasets` holds {found or 'another one'};"
            f" fetch it with `hf download --repo-type dataset {hub.repository} --revision {revision}`"
        )
    return table, None


class _Missing(DataError):
    """The cache of `datasets` does not have the split."""


def _prepared(hub: HubSet, split: str) -> Any:
    """The split as `datasets` cached it at an earlier load. Raises _Missing if there was none."""
    try:
        return _load(hub.repository, hub, split)
    except (ConnectionError, FileNotFoundError) as error:  # offline, it asks the hub only for what it does not have
        raise _Missing(str(error)) from error


def _prepared_commit(table: Any) -> str | None:
    """The commit of a prepared table: `datasets` keeps it in a folder of that name. None if the name is no commit."""
    files = getattr(table, "cache_files", None)
    name = Path(files[0]["filename"]).parent.name if files else ""
    return name if COMMIT.fullmatch(name) else None


def _load(where: str, hub: HubSet, split: str, *, streaming: bool = False, revision: str | None = None) -> Any:
    import datasets

    table = datasets.load_dataset(where, name=hub.config, split=split, streaming=streaming, revision=revision)
    for name, feature in (table.features or {}).items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table


def _rows(table: Any, hub: HubSet, split: str, columns: Sequence[str] | None, folder: Path) -> Iterator[Row]:
    """The rows; a path in a cell counts from `folder`."""
    if columns is not None:
        table = table.select_columns(list(columns))
    for number, row in enumerate(table, start=1):
        yield Row(row, f"{hub.name}, {split}: row {number}", folder)


def _holds_data(folder: Path) -> bool:
    """Whether a snapshot holds more than the card, which is downloaded first and may be all there is."""
    return any(path.is_file() and path.name not in ("README.md", ".gitattributes") for path in folder.rglob("*"))


@contextmanager
def _faults_as_data_errors(hub: HubSet, split: str) -> Iterator[None]:
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
