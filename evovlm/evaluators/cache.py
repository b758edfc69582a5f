"""The evaluation cache: what a candidate answered to an item is kept in the study's folder and never generated again.

Knows SQLite, digests and item ids; no models and no searches. One writer at a time (the study's lock sees to that):
workers elsewhere are sent what is known of a candidate, and send back what they made (`CarriedAnswers`).
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from shutil import disk_usage
from typing import NamedTuple, Protocol

from evovlm.evaluators.evaluation import Answered, Evaluation
from evovlm.system.errors import StudyError
from evovlm.tasks import Task

_TABLE = """
create table if not exists answers (
  question text, digest text, item text, score real, exact integer, answer text,
  primary key (question, digest, item)
) without rowid
"""
LITTLE = 2**17  # bytes: less room than SQLite's log wants
_KEEP = "insert or replace into answers values (?, ?, ?, ?, ?, ?)"
# Way of asking, digest, item, score, exact, answer.
Row = tuple[str, str, str, float, bool, str]


class Way(NamedTuple):
    """How items are asked and marked, as answers are kept by it; `older`: what earlier versions called it."""

    key: str
    older: str


class Answers(Protocol):
    """What an evaluator needs of a cache."""

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """The answers of a candidate to those of the items that it was asked before, by item."""

    def keep(self, way: Way, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """Keep what a candidate answered to the items; gives it back by item."""


class AnswerCache:
    """Answers by genome digest and item, for each way of asking (task, prompt, decoding, marking)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._base = sqlite3.connect(path)
            # A log beside the file, synced now and then: a killed process loses nothing, a power cut the last answers
            # at most, and no candidate waits for the disk. Where the file system cannot, SQLite keeps to its default.
            self._base.execute("pragma journal_mode = wal")
            self._base.execute("pragma synchronous = normal")
            self._base.execute(_TABLE)
            self._base.commit()
            # All ways of asking are known, so that a candidate's answers are found by key.
            self._ways = {way for (way,) in self._base.execute("select distinct question from answers")}
        except sqlite3.OperationalError as error:
            raise self._disk_fault(error) from error
        except sqlite3.DatabaseError as error:
            raise StudyError(
                f"{path}: not a cache of answers ({error}); delete it to have the answers made again"
            ) from None

    def __len__(self) -> int:
        """How many answers are held."""
        count: int = self._base.execute("select count(*) from answers").fetchone()[0]
        return count

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """The answers of a candidate to those of the items that it was asked before, by item."""
        wanted = set(items)
        found: dict[str, Answered] = {}
        for key in (way.older, way.key):
            rows = self._base.execute(
                "select item, score, exact, answer from answers where question = ? and digest = ?", (key, digest)
            )
            found |= {item: Answered(score, bool(exact), text) for item, score, exact, text in rows if item in wanted}
        return found

    def keep(self, way: Way, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """Store what a candidate answered to the items; gives it back by item."""
        found = _by_item(items, made)
        self.add((way.key, digest, item, *one) for item, one in found.items())
        return found

    def rows(self, digest: str) -> tuple[Row, ...]:
        """All answers of a candidate, however it was asked, to be sent to a worker."""
        rows: list[Row] = []
        for way in sorted(self._ways):
            found = self._base.execute("select * from answers where question = ? and digest = ?", (way, digest))
            rows += [(one, own, item, score, bool(exact), text) for one, own, item, score, exact, text in found]
        return tuple(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Store rows; they survive this process when this returns. Raises OSError where the disk does not take them."""
        kept = list(rows)
        self._ways |= {row[0] for row in kept}
        try:
            with self._base:
                self._base.executemany(_KEEP, kept)
        except sqlite3.OperationalError as error:
            raise self._disk_fault(error) from error

    def _disk_fault(self, error: sqlite3.OperationalError) -> OSError:
        """The disk's fault and no candidate's: a search must not go on as if a candidate had failed."""
        # SQLite tells a full disk as a fault of reading and writing where it meets it in its log.
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL or disk_usage(self._path.parent).free < LITTLE
        return OSError(errno.ENOSPC if full else errno.EIO, str(error), str(self._path))

    def close(self) -> None:
        """Close the file."""
        self._base.close()


class CarriedAnswers:
    """A cache in memory that travels: what was known of a candidate, and in `made` the rows that came since."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Answered] = {}
        self.made: list[Row] = []

    def load(self, rows: Sequence[Row]) -> None:
        """Begin anew with what is known."""
        self._known = {row[:3]: Answered(*row[3:]) for row in rows}
        self.made = []

    def known(self, way: Way, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """See `Answers`."""
        keys = [(key, digest, item) for key in (way.older, way.key) for item in items]
        return {key[2]: self._known[key] for key in keys if key in self._known}

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


def way_of_asking(task: Task, where: str) -> Way:
    """Short names for a task, its prompt, decoding and marking, and where its items come from.

    Another prompt is another question, another rule another score, and two files may use one id for two questions.
    """
    asked = repr(task.generation)
    marked = json.dumps(dict(task.rules), sort_keys=True, default=str)
    return Way(f"{task.name}-{_digest(asked + marked + where)}", f"{task.name}-{_digest(asked)}")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
