"""The answer cache: each candidate's answer to an item is stored in the study's folder and never generated again.

Knows SQLite, digests and the items' keys; no models and no searches. A key holds the item's content, so another
question under the same id is another item. Only one process writes at a time (ensured by the study's lock): remote
workers receive a candidate's known answers and send back the new ones (`CarriedAnswers`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from shutil import disk_usage
from typing import NamedTuple, Protocol

from evovlm.evaluators.evaluation import Answered, Evaluation
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import StudyError
from evovlm.tasks import Task

_TABLE = """
create table if not exists answers (
  question text, digest text, item text, score real, exact integer, answer text,
  primary key (question, digest, item)
) without rowid
"""
LITTLE = 2**17  # bytes: SQLite's log needs more free disk space than this
_KEEP = "insert or replace into answers values (?, ?, ?, ?, ?, ?)"
_COLUMNS = ["question", "digest", "item", "score", "exact", "answer"]
_KEY = re.compile(r"[0-9a-f]{32}:(.*)", re.DOTALL)
# Way of asking, digest, item's key (earlier versions: its id), score, exact, answer.
Row = tuple[str, str, str, float, bool, str]


class Way(NamedTuple):
    """The cache key for how items are asked and marked.

    `older`: the key that earlier versions used, which does not say where an item comes from; None where two data sets
    may have the same ids.
    """

    key: str
    older: str | None


class Answers(Protocol):
    """The cache interface that an evaluator needs. `items`: their keys."""

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """Return a candidate's known answers by item, for those of the items that it was asked before."""

    def keep(self, way: Way, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """Store a candidate's answers to the items; returns them by item."""


class AnswerCache:
    """Answers by recipe digest and item, for each way of asking (task, prompt, decoding, marking).

    Raises StudyError if the file at `path` is not a cache of answers or is damaged, OSError if the disk is full or
    faulty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        there = path.exists()
        try:
            self._base = sqlite3.connect(path)
            if there and (sound := self._base.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(sound)
            # Write-ahead log, synced occasionally: a killed process loses nothing, a power cut at most the last
            # answers, and no candidate waits for the disk. If the file system lacks support, SQLite uses its default.
            self._base.execute("pragma journal_mode = wal")
            self._base.execute("pragma synchronous = normal")
            self._base.execute(_TABLE)
            self._base.commit()
            if (columns := [row[1] for row in self._base.execute("pragma table_info(answers)")]) != _COLUMNS:
                raise sqlite3.DatabaseError(f"its columns are {columns}")
            # Load all ways of asking, so that a candidate's answers can be looked up by primary key.
            self._ways = {way for (way,) in self._base.execute("select distinct question from answers")}
        except sqlite3.OperationalError as error:
            raise self._disk_fault(error) from error
        except sqlite3.DatabaseError as error:
            with suppress(sqlite3.Error, AttributeError):
                self._base.close()
            raise StudyError(
                f"{path}: not a cache of answers ({error}); delete it to generate the answers again"
            ) from None

    @classmethod
    def replacing_damaged(cls, path: Path, tell: Callable[[str], None]) -> AnswerCache:
        """The cache at `path`; if that is damaged, it is renamed, and a new one is started.

        `tell` is then called with a sentence. Raises OSError if the disk is full or faulty.
        """
        try:
            return cls(path)
        except StudyError:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            for log in ("-wal", "-shm"):  # of the damaged file; SQLite would apply them to the new one
                path.with_name(path.name + log).unlink(missing_ok=True)
            tell(f"{path}: not a cache of answers; renamed to {aside.name}, and the answers are generated again")
            return cls(path)

    def __len__(self) -> int:
        """Number of stored answers."""
        count: int = self._base.execute("select count(*) from answers").fetchone()[0]
        return count

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """See `Answers`."""
        stored: dict[tuple[str, str], Answered] = {}
        for key in _keys(way):
            rows = self._base.execute(
                "select item, score, exact, answer from answers where question = ? and digest = ?", (key, digest)
            )
            stored |= {(key, item): Answered(score, bool(exact), text) for item, score, exact, text in rows}
        return _found(stored, way, items)

    def keep(self, way: Way, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """See `Answers`. Raises the same errors as `add`."""
        found = _by_item(items, made)
        self.add((way.key, digest, item, *one) for item, one in found.items())
        return found

    def rows(self, digest: str) -> tuple[Row, ...]:
        """Return all answers of a candidate, for every way of asking, to be sent to a worker."""
        rows: list[Row] = []
        for way in sorted(self._ways):
            found = self._base.execute("select * from answers where question = ? and digest = ?", (way, digest))
            rows += [(one, own, item, score, bool(exact), text) for one, own, item, score, exact, text in found]
        return tuple(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Store rows; afterwards they survive the end of this process. Raises OSError if the disk is full or faulty."""
        kept = list(rows)
        self._ways |= {row[0] for row in kept}
        try:
            with self._base:
                self._base.executemany(_KEEP, kept)
        except sqlite3.OperationalError as error:
            raise self._disk_fault(error) from error

    def _disk_fault(self, error: sqlite3.OperationalError) -> OSError:
        """The error as OSError: the disk failed, not the candidate, so the search must not continue."""
        # SQLite reports a full disk as an I/O error if it occurs in its log.
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL or disk_usage(self._path.parent).free < LITTLE
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        code = errno.ENOSPC if full else errno.EFBIG if limited else errno.EIO
        return OSError(code, os.strerror(code) if limited and not full else str(error), str(self._path))

    def close(self) -> None:
        """Close the file."""
        self._base.close()


class CarriedAnswers:
    """An in-memory cache for remote workers: a candidate's known answers; `made`: the rows added since `load`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Answered] = {}
        self.made: list[Row] = []

    def load(self, rows: Sequence[Row]) -> None:
        """Start over with these known answers."""
        self._known = {row[:3]: Answered(*row[3:]) for row in rows}
        self.made = []

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """See `Answers`."""
        own = {(key, item): one for (key, asked, item), one in self._known.items() if asked == digest}
        return _found(own, way, items)

    def keep(self, way: Way, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """See `Answers`."""
        found = _by_item(items, made)
        self._known |= {(way.key, digest, item): one for item, one in found.items()}
        self.made += [(way.key, digest, item, *one) for item, one in found.items()]
        return found


def _by_item(items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
    return {
        item: Answered(score, exact, answer)
        for item, score, exact, answer in zip(items, made.scores, made.exact, made.answers, strict=True)
    }


def _keys(way: Way) -> list[str]:
    return [way.key] if way.older is None else [way.older, way.key]


def _found(stored: Mapping[tuple[str, str], Answered], way: Way, items: Sequence[str]) -> dict[str, Answered]:
    """The answers to the items, by their keys; those that earlier versions stored under the item's id count too."""
    found = {}
    for item in items:
        named = _KEY.fullmatch(item)
        places = [(key, named[1]) for key in _keys(way)] if named else [(key, item) for key in _keys(way)]
        for place in [*places, (way.key, item)]:
            if place in stored:
                found[item] = stored[place]
    return found


def way_of_asking(task: Task, where: str, *, several: bool = False) -> Way:
    """Return the cache key for a task, its prompt, decoding and marking, and where its items come from (`where`).

    All are part of the key: another prompt changes the answer, and another rule changes the score. `several`: whether
    candidates are also asked items of further data sets, whose ids may be the same.
    """
    asked = task.generation.asked
    marked = json.dumps(dict(task.rules), sort_keys=True, default=str)
    older = None if several else f"{task.name}-{_digest(asked)}"
    return Way(f"{task.name}-{_digest(asked + marked + where)}", older)


def asks_several(recipe: Recipe) -> bool:
    """Whether a recipe's search asks items of further data sets: an objective is TASK:SPLIT."""
    return recipe.search is not None and any(":" in name for name in recipe.search.objectives)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
