"""Errors that are the user's to mend: each says what, where, and the next step.

Knows no other module. The command line turns a `UserError` into one red sentence and exit code 2.
"""


class UserError(ValueError):
    """Something the user can put right; its text names the file, the key and the next step."""


class RecipeError(UserError):
    """A recipe that cannot be read, or that does not fit its models."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, of an unsafe format, or cannot be written."""


class StudyError(UserError):
    """A study folder that cannot be resumed as asked."""


class DataError(UserError):
    """A data set or an image that cannot be read."""


# What a bad candidate may do: weights or logits that are not finite, no answer, no memory, a kernel's refusal.
CANDIDATE_FAULTS = (ArithmeticError, ValueError, RuntimeError, MemoryError)


def told_fault(fault: BaseException) -> str:
    """A fault as logs and workers tell it: its type and its text."""
    return f"{type(fault).__name__}: {fault}"
