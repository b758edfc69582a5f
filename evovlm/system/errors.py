"""Errors that the user can fix: each says what is wrong, where, and the next step.

Knows no other module. The command line turns a `UserError` into one red sentence and exit code 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """Something the user can fix; the message names the file, the key and the next step."""


class RecipeError(UserError):
    """A recipe that cannot be read or does not fit its models."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, in an unsafe format, or cannot be written."""


class StudyError(UserError):
    """A study folder that cannot be resumed as asked."""


class NoScoreError(StudyError):
    """A search in which no candidate can be scored."""


class DataError(UserError):
    """A data set or an image that cannot be read."""


class UnfitImage(DataError):
    """An image that a model's processor refuses; another model's may take it."""


class MachineFault(UserError):
    """Something that the machine lacks: memory, a dictionary, a GPU in a good state. No candidate is to blame."""


class LackingMemory(MachineFault):
    """Not enough memory: for what was asked for; something smaller may still fit."""


class CandidateFault(Exception):
    """A candidate that cannot be scored because of its own values; a search logs it as failed and goes on."""


class NotFinite(CandidateFault, FloatingPointError):
    """Merged weights or logits that are not finite."""


class UnfitValues(CandidateFault, RecipeError):
    """Values for which a merge method is undefined: a candidate's fault in a search, otherwise the recipe's."""


def first_fault(error: ValidationError) -> str:
    """The first thing that a schema finds wrong, after its key if it has one."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def fault_text(fault: BaseException) -> str:
    """An exception as logs and workers report it: its type and its message."""
    return f"{type(fault).__name__}: {fault}"


def plain_failure(failure: str) -> str:
    """A failure as `fault_text` gives it, for users: without the name of a class that is ours."""
    kind, _, text = failure.partition(": ")
    return text if text and kind in {one.__name__ for one in (CandidateFault, NotFinite, UnfitValues)} else failure


def joined_errors(sentences: Sequence[str], what: str) -> str:
    """Several faults of one kind as one message: a fault by itself, or how many there are and then a line each."""
    return sentences[0] if len(sentences) == 1 else "\n  ".join([f"{len(sentences)} {what}:", *sentences])
