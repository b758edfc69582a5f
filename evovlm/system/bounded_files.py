"""Read files that a user or another program provides: only regular files, at most a given size, text as UTF-8.

Does not know what the files mean. A FIFO would wait for ever, /dev/zero would fill the memory, and a folder or a file
of another encoding would end in an exception of the operating system's or the codec's.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from evovlm.system.errors import UserError

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
# Byte order marks that tell UTF-16 and UTF-32, which are the usual reason why a text is not UTF-8.
OTHER_ENCODINGS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
UTF8_MARK = "\ufeff"


class Unreadable(UserError):
    """A file that cannot be read. The message names the file and the reason, without the next step."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file (or a link to one) for reading.

    Raises FileNotFoundError if there is none, and Unreadable if it is something else or not permitted.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait until another process writes to it.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = ": it is a socket, not a file" if error.errno == errno.ENXIO else f" ({error.strerror})"
        raise Unreadable(f"{path}: cannot be read{why}") from None
    except ValueError:
        raise Unreadable(f"{str(path)!r}: the name contains a NUL byte") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise Unreadable(f"{path}: cannot be read: it is {_kind(mode)}, not a file")
    return os.fdopen(handle, "rb")


def kind_of(path: Path) -> str:
    """What stands at a path, such as "a folder", or "a link that leads nowhere"; empty if nothing does."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link that leads nowhere" if path.is_symlink() else ""
    return "a file" if stat.S_ISREG(mode) else _kind(mode)


def _kind(mode: int) -> str:
    return next((name for matches, name in KINDS if matches(mode)), "something else")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file (or of a link to one) of at most `most` bytes.

    Raises FileNotFoundError if there is none, and Unreadable if it is something else, too large, or not permitted.
    """
    with open_regular(path) as file:
        try:
            # One byte more than allowed: the size of a file being written may differ from what fstat reports.
            content = file.read(most + 1)
        except OSError as error:
            raise Unreadable(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > most:
        raise Unreadable(f"{path}: cannot be read: it has more than {most:,} bytes, the limit for such a file")
    return content


def read_text(path: Path, most: int) -> str:
    """The text of a regular UTF-8 file of at most `most` bytes, without a byte order mark.

    Raises FileNotFoundError if there is none, and Unreadable if it is not such a file.
    """
    content = read_bytes(path, most)
    for mark, name in OTHER_ENCODINGS:
        if content.startswith(mark):
            raise Unreadable(f"{path}: cannot be read as text: it is {name}; save it as UTF-8")
    try:
        return content.decode("utf-8").removeprefix(UTF8_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            f"{path}:{line}: cannot be read as text: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from None
