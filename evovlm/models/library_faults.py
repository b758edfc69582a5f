"""What libraries raise and print about a model's files, as one sentence that names the folder.

Knows transformers' logger and the ways in which Python and Rust libraries fail; not what they were asked to do.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evovlm.models.panics import is_panic
from evovlm.system.errors import CandidateFault, CheckpointError, UserError
from evovlm.system.faults import machine_fault
from evovlm.system.plain_text import abridged

log = logging.getLogger(__name__)
MOST_SHOWN = 200  # characters of a library's own message


@contextmanager
def explained(
    folder: Path,
    what: str = "transformers cannot load it",
    step: str = "complete the folder or download it again",
) -> Iterator[None]:
    """Turn whatever a library raises about a model's files into CheckpointError, and keep what it logs to ourselves.

    `what`, `step`: the sentence's middle and end. User errors pass; what the machine lacks becomes MachineFault.
    """
    try:
        with held_back():
            yield
    except (UserError, CandidateFault, FloatingPointError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        lacking = machine_fault(error)
        if lacking is not None:
            raise lacking from error
        raise CheckpointError(f"{folder}: {what} ({in_words(error)}); {step}") from error


def in_words(error: BaseException) -> str:
    """An exception's kind and the first line of its message, shortened; the second too after a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A first line such as "Validation error for field 'hidden_act':" says what only with the second one.
    first = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    shown = abridged(first, MOST_SHOWN)
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


@contextmanager
def held_back() -> Iterator[None]:
    """Keep what transformers logs in the block off the terminal: it goes to our own log, for debugging."""
    handlers = list(logging.getLogger("transformers").handlers)

    def hold(record: logging.LogRecord) -> bool:
        ours = record.name.startswith("evovlm")  # a handler may serve several loggers
        if not ours:
            log.debug("transformers: %s", record.getMessage())
        return ours

    for handler in handlers:
        handler.addFilter(hold)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(hold)
