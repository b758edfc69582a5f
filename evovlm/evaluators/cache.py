"""The evaluation cache: what a candidate answered to an item is kept in the study's folder and never generated again.

Knows SQLite, digests and item ids; no models and no searches. One writer at a time (the study's lock sees to that).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from evovlm.errors import StudyError
from evovlm.evaluators.evaluation import Answered, Evaluation
from evovlm.tasks import Task

_TABLE = """
create table if not exists answers (
  question text, digest text, item text, score real, exact integer, answer text,
  primary key (question, digest, item)
) without rowid
"""
_KEEP = "insert or replace into answers values (?, ?, ?, ?, ?, ?)"


class AnswerCache:
    """Answers by genome digest and item, for each way of asking (task, prompt, decoding)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._base = sqlite3.connect(path)
            self._base.execute(_TABLE)
            self._base.commit()
        except sqlite3.DatabaseError as error:
            raise StudyError(
                f"{path}: not a cache of answers ({error}); delete it to have the answers made again"
            ) from None

    def __len__(self) -> int:
        """How many answers are held."""
        count: int = self._base.execute("select count(*) from answers").fetchone()[0]
        return count

    def known(self, task: Task, digest: str, items: Sequence[str]) -> dict[str, Answered]:
        """The answers of a candidate to those of the items that it was asked before, by item."""
        rows = self._base.execute(
            "select item, score, exact, answer from answers where question = ? and digest = ?",
            (way_of_asking(task), digest),
        )
        wanted = set(items)
        return {item: Answered(score, bool(exact), text) for item, score, exact, text in rows if item in wanted}

    def keep(self, task: Task, digest: str, items: Sequence[str], made: Evaluation) -> dict[str, Answered]:
        """Store what a candidate answered to the items, on disk when this returns; gives it back by item.

        Raises OSError where the disk is full or does not take it.
        """
        found = {
            item: Answered(score, exact, answer)
            for item, score, exact, answer in zip(items, made.scores, made.exact, made.answers, strict=True)
        }
        way = way_of_asking(task)
        try:
            with self._base:
                self._base.executemany(_KEEP, [(way, digest, item, *one) for item, one in found.items()])
        except sqlite3.OperationalError as error:
            # The disk's fault and no candidate's: the search must not go on as if the candidate had failed.
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(self._path)) from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def way_of_asking(task: Task) -> str:
    """A short name for the task, its prompt and its decoding: another prompt is another question."""
    return f"{task.name}-{blake2b(repr(task.generation).encode(), digest_size=6).hexdigest()}"
