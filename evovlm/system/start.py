"""Start a program: interrupts exit with code 130 and unforeseen errors with 70 in every phase, also during imports.

Knows only the name of what it starts, and imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from evovlm.system import crash_log
from evovlm.system.units import duration

USER_ERROR = 2
INTERRUPTED = 130  # 128 plus the signal's number, the shell convention
FIRST_WORD = 2.0  # seconds of loading libraries without a word
NEXT_WORDS = 15.0  # seconds between two further lines
SOON = 0.02  # seconds; the finaliser has returned by then


def start(module: str) -> None:
    """Import a module and call its `main`, which reports its own errors."""
    _open_closed_streams()
    if folder_is_gone():
        print_error("error: the current folder has been deleted; change to another folder")
        sys.exit(USER_ERROR)
    sys.unraisablehook = _raise_again
    try:
        with _patience():
            program = import_module(module)
        program.main()
    except KeyboardInterrupt:
        print_error("interrupted; run the same command again")
        _leave()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _leave()
        raise
    except BaseException as error:
        crash_log.report(error, sys.argv)
        sys.exit(crash_log.UNFORESEEN)


def folder_is_gone() -> bool:
    """Whether the current folder was deleted: torch's libraries would end the process with messages of their own."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@contextmanager
def _patience() -> Iterator[None]:
    """Say that the program is starting while its libraries load, if that takes longer than a moment."""
    began, over = time.monotonic(), threading.Event()

    def beat() -> None:
        wait = FIRST_WORD
        while not over.wait(wait):
            print_error(f"starting: {duration(time.monotonic() - began)} so far")
            wait = NEXT_WORDS

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def print_error(text: str) -> None:
    """Print a line on standard error, if it is open."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _open_closed_streams() -> None:
    """Open /dev/null for standard streams that are closed: a file opened later would be taken for one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _raise_again(lost: Any) -> None:
    """Send the interrupt again: Python ignores one that arrives inside a finaliser."""
    if lost.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        again = threading.Timer(SOON, signal.pthread_kill, (main_thread, signal.SIGINT))
        again.daemon = True
        again.start()
    elif lost.exc_value is not None and not isinstance(lost.exc_value, BrokenPipeError):
        # Nothing failed that the user waits for, so the traceback goes to the log only.
        crash_log.record(lost.exc_value, sys.argv)


def _leave() -> None:
    """Exit at once with code 130. After an interrupt in C code, Python would be killed by the signal instead."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(INTERRUPTED)
