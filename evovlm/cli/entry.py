"""Run a command line: every way in which it can end becomes an exit code and at most one sentence.

Exit codes: 0 success; 2 something that the user can change; 70 an unforeseen error, with its traceback in a log file;
130 interrupted; 141 the reader of the output has gone. Knows typer; no commands.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from evovlm.cli._environment import blamed_environment, check_environment
from evovlm.system import crash_log
from evovlm.system.errors import CandidateFault, UserError
from evovlm.system.faults import machine_fault
from evovlm.system.plain_text import cut_words, visible
from evovlm.system.plugins import load_plugins
from evovlm.system.start import INTERRUPTED, folder_is_gone

USER_ERROR = 2
PIPE_CLOSED = 141  # 128 plus SIGPIPE, as the shell reports other programs
# The base class of typer's usage errors; some versions of typer import click's and some have their own.
USAGE_FAULT = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

# Errors of the operating system that are not bugs: the disk, a path, a limit of this process or machine, a port.
SYSTEM_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY),
    *(errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.EXDEV, errno.ENOLCK, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EAGAIN, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENETUNREACH),
)
NEXT_STEPS = {
    errno.EMFILE: "; raise the limit with `ulimit -n 4096`",
    errno.EFBIG: "; the file size limit (`ulimit -f`) or the file system does not allow it",
    errno.EAGAIN: "; the limit of processes (`ulimit -u`) is reached",
}


def run(app: typer.Typer, arguments: Sequence[str] | None = None, *, name: str | None = None) -> None:
    """Run a typer app with `arguments` (None: the process's own), and raise SystemExit with the exit code.

    name: how help and errors call the program; None: as it was started.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    line = [name or Path(sys.argv[0]).name, *words]
    with _printable(), _no_tracebacks(line):
        code = _code_of(lambda: _invoke(app, words, name), line)
        code = _code_of(_flush, line) or code
    if code == PIPE_CLOSED:
        _drop_output()
    sys.exit(code)


def run_command(command: Callable[..., None]) -> None:
    """Run a function as a program with one command."""
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(command)
    run(app)


def _invoke(app: typer.Typer, words: list[str], name: str | None) -> int:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Must be set before torch loads: with spinning threads, runs take ten times as long if other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _check_words(words)
    check_environment()
    load_plugins()
    found = _command(app)(args=words, prog_name=name, standalone_mode=False)
    return found if isinstance(found, int) else 0


@cache
def _command(app: typer.Typer) -> Any:
    """What parses the app's arguments: made once, for a process may run many command lines."""
    return get_command(app)


def _code_of(work: Callable[[], Any], line: Sequence[str]) -> int:
    """Do the work and return its exit code; print a sentence if it fails. `line`: the command line, for the log."""
    try:
        code = int(work() or 0)
        if code == INTERRUPTED:  # as typer reports it
            raise KeyboardInterrupt
        return code
    except BaseException as error:
        code, text = _outcome(error)
        if code == INTERRUPTED:
            _tell("", "yellow", "interrupted; no partial files were left, run the same command to resume")
        elif text:
            _tell("error: ", "red", text)
        elif code == crash_log.UNFORESEEN:
            crash_log.report(error, line)
        return code


def _outcome(error: BaseException) -> tuple[int, str]:
    """The exit code that an exception means, and what to tell; empty if there is nothing to add."""
    code, text = crash_log.UNFORESEEN, ""
    if isinstance(error, KeyboardInterrupt):
        code = INTERRUPTED
    # typer and rich turn a broken pipe into exit code 1.
    elif isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        code = PIPE_CLOSED
    elif isinstance(error, SystemExit):
        code, text = (USER_ERROR, error.code) if isinstance(error.code, str) else (int(error.code or 0), "")
    elif isinstance(error, Exception):
        known = _sentence(error)
        known = blamed_environment(error) if known is None else known
        code, text = (code, text) if known is None else (USER_ERROR, known)
    return code, text


def _sentence(error: Exception) -> str | None:
    """What to tell about an error that is no bug of ours; empty if all is said, None if it is a bug."""
    text = None
    if isinstance(error, OSError) and error.errno == errno.ENOENT and folder_is_gone():
        text = "the current folder was deleted meanwhile; change to another folder and run the same command again"
    elif isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, USAGE_FAULT):
        text = _usage(error)
    elif isinstance(error, typer.Abort):
        text = "aborted"
    elif (lacking := machine_fault(error)) is not None:
        text = str(lacking)
    elif isinstance(error, OSError) and error.errno in SYSTEM_FAULTS:
        step = NEXT_STEPS.get(error.errno, "") if error.errno is not None else ""
        text = f"{_named(error.filename)}: {error.strerror}{step}"
    elif isinstance(error, CandidateFault | FloatingPointError) and str(error):
        text = str(error)
    return text


def _usage(error: Any) -> str:
    """A usage error as one sentence. typer has printed the help already if a command was given nothing."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    return " ".join(error.format_message().split()).rstrip(".") + hint


def _named(place: Any) -> str:
    return "disk" if place is None or isinstance(place, int) else os.fsdecode(place)


def _tell(label: str, style: str, text: str) -> None:
    """Print a line on standard error: no markup, breaks at the terminal's width, control codes or overlong words."""
    from rich.console import Console
    from rich.text import Text

    text = visible(cut_words(text))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    line = Text.assemble((label, style), text) if label else Text(text, style=style)
    with suppress(OSError, ValueError, SystemExit):  # standard error is closed: the exit code still tells
        console.print(line)


def _check_words(words: Sequence[str]) -> None:
    """Refuse arguments that no command can mean: empty ones, and those with a NUL byte, which ends a path."""
    for word, before in zip(words, ["", *words], strict=False):
        name, sign, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        after = f" (after {name})" if name.startswith("-") else ""
        if sign and not value:
            raise UserError(f"an argument is empty{after}; give a value, or leave it out")
        if "\0" in word:
            raise UserError(f"an argument contains a NUL byte{after}; remove it")


@contextmanager
def _printable() -> Iterator[None]:
    """Let the standard streams print any text: what their encoding lacks becomes an escape that JSON understands."""
    codecs.register_error("evovlm-escape", _escaped)
    before = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                before.append((stream, stream.errors))
                stream.reconfigure(errors="evovlm-escape")
    try:
        yield
    finally:
        for stream, errors in before:
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Escapes as in JSON: backslash, u and four hexadecimal digits; two of them beyond the basic plane."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


@contextmanager
def _no_tracebacks(line: Sequence[str]) -> Iterator[None]:
    """Report errors in threads by a sentence, and let logging print none of its own."""
    before, talkative = threading.excepthook, logging.raiseExceptions

    def report(lost: threading.ExceptHookArgs) -> None:
        if lost.exc_value is not None and not isinstance(lost.exc_value, SystemExit):
            crash_log.report(lost.exc_value, line)

    threading.excepthook = report
    logging.raiseExceptions = False
    try:
        yield
    finally:
        threading.excepthook, logging.raiseExceptions = before, talkative


def _flush() -> None:
    """Write out what is left, so that a full disk or a closed pipe is noticed here and not at Python's exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _drop_output() -> None:
    """Send further output nowhere: Python would complain about it when it exits."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
