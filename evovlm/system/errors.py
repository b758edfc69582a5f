"""Errors that the user can fix: each says what is wrong, where, and the next step.

Knows no other module. The command line turns a `UserError` into one red sentence and exit code 2.
"""

from collections.abc import Sequence


class UserError(ValueError):
    """Something the user can fix; the message names the file, the key and the next step."""


class RecipeError(UserError):
    """A recipe that cannot be read or does not fit its models."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, in an unsafe format, or cannot be written."""


class StudyError(UserError):
    """A study folder that cannot be resumed as asked."""


class DataError(UserError):
    """A data set or an image that cannot be read."""


# What a bad candidate may raise: non-finite weights or logits, no answer, out of memory, a kernel error.
CANDIDATE_FAULTS = (ArithmeticError, ValueError, RuntimeError, MemoryError)


def told_fault(fault: BaseException) -> str:
    """An exception as logs and workers report it: its type and its message."""
    return f"{type(fault).__name__}: {fault}"


def told_together(sentences: Sequence[str], what: str) -> str:
    """Several faults of one kind as one message: a fault by itself, or how many there are and then a line each."""
    return sentences[0] if len(sentences) == 1 else "\n  ".join([f"{len(sentences)} {what}:", *sentences])
