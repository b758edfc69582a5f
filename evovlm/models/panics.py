"""Panics of libraries written in Rust: told apart from other exceptions, and their reports kept off the terminal.

Knows how Rust reports a panic; not what a library was asked to do. A panic becomes an exception in Python, but before
that Rust itself writes some lines, or a whole backtrace, on file descriptor 2.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

log = logging.getLogger(__name__)

STDERR = 2
REPORT = re.compile(rb"\n?thread '[^\n]*panicked at .*?(?:\nnote: [^\n]*\n|\Z)", re.DOTALL)
_lock = threading.Lock()
_blocks = 0  # being run; the first one redirects, the last one restores
_redirected = (-1, -1)  # a copy of the true descriptor, and the file in its place


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic: these are no `Exception`s, and every library makes a class of its own."""
    return not isinstance(error, Exception) and type(error).__name__ == "PanicException"


@contextmanager
def without_reports() -> Iterator[None]:
    """Keep reports of panics off standard error in the block; they go to the log. Other output follows at its end.

    Blocks may be nested and run in several threads. Keep them short: what other threads print meanwhile waits too.
    """
    global _blocks, _redirected  # noqa: PLW0603  a process has one standard error
    with _lock:
        if not _blocks:
            _redirected = _redirect()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _restore(*_redirected)


def _redirect() -> tuple[int, int]:
    """Point standard error at a new file; (-1, -1) if it is closed or no file can be made."""
    try:
        _flush()
        true = os.dup(STDERR)
    except OSError:
        return -1, -1
    try:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
        os.dup2(file, STDERR)
    except OSError:
        os.close(true)
        return -1, -1
    return true, file


def _restore(true: int, file: int) -> None:
    """Point standard error where it was, and write there what was no report of a panic."""
    if true < 0:
        return
    _flush()
    os.dup2(true, STDERR)
    os.close(true)
    with os.fdopen(file, "r+b") as kept:
        kept.seek(0)
        text = kept.read()
    for report in REPORT.findall(text):
        log.debug("%s", report.decode(errors="replace").strip())
    with suppress(OSError):  # standard error is full, or its reader has gone
        os.write(STDERR, REPORT.sub(b"", text))


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
