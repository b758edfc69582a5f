"""Record an unforeseen error in a file of the user's, so that the terminal gets one sentence instead of a traceback.

Knows no command; imports nothing that takes time, because it must work when anything else cannot be imported.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evovlm.system.plain_text import abridged, visible

UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h
MOST_SHOWN = 200  # characters of an error's own message in the sentence; the log has all of it
# Values on a command line that must not be written to a file: a visitor's password, and one within a URL.
SECRET_OPTION = "--auth"
# Up to the last @, for a password may hold any character; or as a part of the query.
URL_PASSWORD = re.compile(r"(://[^@\s:/]*:)[^\s]+(@)|([?&](?:password|passwd|pwd)=)[^&\s]+", re.IGNORECASE)
HIDDEN = "(hidden)"


def record(error: BaseException, words: Sequence[str]) -> Path | None:
    """Write traceback, versions and command line to a new file that only its owner can read; None if none can be.

    `words`: the command line. The file is in `$XDG_STATE_HOME/evovlm` (`~/.local/state/evovlm`), or in the folder for
    temporary files if that cannot be written.
    """
    content = "\n".join((*_about(words), "", without_passwords("".join(traceback.format_exception(error)))))
    name = f"crash-{datetime.now(UTC):%Y%m%d-%H%M%S}-"
    for folder in (_state_folder(), None):
        try:
            if folder is not None:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Created with mode 0600, under a name that no other user can foresee.
            handle, path = tempfile.mkstemp(prefix=name if folder else f"evovlm-{name}", suffix=".log", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(content)
            return Path(path)
        except (OSError, ValueError):
            continue
    return None


def sentence(error: BaseException, log: Path | None) -> str:
    """The message for the user about an unforeseen error."""
    first = visible(without_passwords(next(iter(str(error).splitlines()), "")))
    shown = abridged(first, MOST_SHOWN)
    kind = f"{type(error).__name__}: {shown}" if shown else type(error).__name__
    where = f"please report it with {log}" if log is not None else "no log could be written; check the disk"
    return f"an unforeseen error ({kind}); {where}"


def report(error: BaseException, words: Sequence[str]) -> None:
    """Record an error and print one sentence on standard error."""
    text = f"error: {sentence(error, record(error, words))}"
    try:
        if sys.stderr is not None:
            print(text.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # standard error is closed


def hide_secrets(words: Sequence[str]) -> list[str]:
    """A command line without passwords."""
    found, hide = [], False
    for word in words:
        if hide:
            found.append(HIDDEN)
        elif word.startswith(f"{SECRET_OPTION}="):
            found.append(f"{SECRET_OPTION}={HIDDEN}")
        else:
            found.append(without_passwords(word))
        hide = word == SECRET_OPTION
    return found


def without_passwords(text: str) -> str:
    """A text in which the passwords of URLs are hidden."""
    return URL_PASSWORD.sub(lambda found: f"{found[1] or found[3]}{HIDDEN}{found[2] or ''}", text)


def _about(words: Sequence[str]) -> list[str]:
    lines = [f"command: {hide_secrets(words)!r}", f"folder: {_working_folder()}", f"python: {sys.version}"]
    try:
        from evovlm.system.version import versions

        lines += [f"{name}: {number}" for name, number in versions().items()]
    except Exception as error:  # whatever is broken here may be what is being reported
        lines.append(f"versions: unknown ({type(error).__name__}: {error})")
    return lines


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "deleted"


def _state_folder() -> Path | None:
    given = os.environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):  # the specification ignores relative paths
        return Path(given) / "evovlm"
    try:
        return Path.home() / ".local" / "state" / "evovlm"
    except RuntimeError:  # no home folder is known
        return None
