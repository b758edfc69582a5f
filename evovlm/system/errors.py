"""Errors that the user can fix: each says what is wrong, where, and the next step.

Knows no other module. The command line turns a `UserError` into one red sentence and exit code 2.
"""


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
