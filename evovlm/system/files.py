"""Crash-safe files: JSON and text are written atomically; JSON lines are appended, flushed and synced.

Does not know what the files mean. Files may have been damaged, or put there by others: only regular ones are read, and
values that are nested deeper than any of ours are refused, because most of what reads them is recursive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from evovlm.system.bounded_files import Unreadable, open_regular, read_bytes
from evovlm.system.errors import StudyError

MOST_NESTED = 64
MOST_JSON_BYTES = 16 * 2**20  # of a file that is read at once; the largest of ours, an atlas, has about one
MOST_LINE_BYTES = 4 * 2**20  # of a file of JSON lines, which is read line by line; a trial has a few thousand
BLOCK = 2**20  # bytes
MOST_NAMED = 5  # damaged lines


def counted_from(root: Path, path: str | Path) -> Path:
    """The absolute path, without `.` and `..`, of a path that is relative to the folder `root`; `~` is a home folder.

    Paths that a user names pass through here once, and are absolute from then on: a path that is still relative could
    be joined to its folder a second time. Links are kept, because a file in the hub's cache is a link to one without a
    suffix; `..` after a link leads to the parent of the link's target, as in the file system.
    """
    found = Path()
    for part in (root / os.path.expanduser(path)).absolute().parts:
        found = Path(os.path.realpath(found)).parent if part == ".." else found / part
    return found


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError if it is none, is no UTF-8, or is nested deeper than MOST_NESTED."""
    try:
        content = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    opened = (text.count("["), text.count("{")) if isinstance(text, str) else (text.count(b"["), text.count(b"{"))
    if sum(opened) > MOST_NESTED and _nested_deeper(content, MOST_NESTED):
        raise ValueError("nested too deep")
    return content


def _nested_deeper(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, dict | list) for value in level)


def read_whole(path: Path) -> bytes | None:
    """The content of a regular file of at most MOST_JSON_BYTES; None if there is none.

    Raises StudyError if it is something else or cannot be read.
    """
    try:
        return read_bytes(path, MOST_JSON_BYTES)
    except FileNotFoundError:
        return None
    except Unreadable as error:
        raise StudyError(f"{error}; restore the file, or remove it") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping. Raises StudyError if it is missing, damaged or not a mapping."""
    found = read_whole(path)
    if found is None:
        raise StudyError(f"{path}: missing; restore the file, or start a new study in another folder")
    try:
        content = parse_json(found)
    except ValueError as error:
        raise StudyError(f"{path}: damaged ({error}); start a new study in another folder") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: damaged (not a mapping); start a new study in another folder")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically and sync it to disk."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically and sync it to disk.

    Half of a surrogate pair, which a JSON file may hold and UTF-8 has no bytes for, is written as the escape of JSON.
    Raises StudyError if a folder is in the way.
    """
    if path.is_dir():
        raise StudyError(
            f"{path}: is a folder, where a file is to be written; remove it and run the same command again"
        )
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def append_rows(path: Path, rows: Iterable[dict[str, Any]], *, synced: bool = True) -> None:
    """Append JSON lines and flush; also fsync if `synced`. Pass `synced=False` for a series that ends with `sync`.

    A last line that a crash or a full disk left unfinished is cut off first, so that it does not damage the new lines.
    Raises StudyError if something other than a file is in the way.
    """
    mend_tail(path)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        if synced:
            os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Sync a file to disk (fsync), if it exists."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read_rows(path: Path, tell: Callable[[str], None] | None = None) -> Iterator[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file; yields nothing if it is missing. Skips an unfinished last line.

    Raises StudyError, with the line number, if a complete line is not a JSON object, or the last one no beginning of
    it, and if the file cannot be read. With `tell`, that is left out instead, and `tell` is called once, with a
    sentence.
    """
    for _, row in numbered_rows(path, tell):
        yield row


def numbered_rows(path: Path, tell: Callable[[str], None] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `read_rows`, with the number of each line, from 1. Holds one line at a time."""
    damaged = []
    try:
        for number, line in _lines(path):
            row = None if line is None or _is_torn(line) else _object_or_none(line)
            if row is not None:
                yield number, row
            elif line is not None and _is_left_by_a_crash(line):
                continue
            elif tell is None:
                raise StudyError(f"{path}:{number}: damaged line; restore the file or start a new study")
            else:
                damaged.append(number)
    except Unreadable as error:
        if tell is None:
            raise StudyError(f"{error}; restore the file, or remove it") from None
        tell(f"{error}; restore the file, or remove it; left out")
    if damaged and tell is not None:
        tell(left_out(path, damaged, "damaged line"))


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """The numbered lines of a file with their ends, None for one that is too long; none if the file is missing.

    Raises Unreadable if it is no regular file or cannot be read.
    """
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(MOST_LINE_BYTES):
                number += 1
                long = len(line) == MOST_LINE_BYTES and not line.endswith(b"\n")
                while long and (more := file.readline(BLOCK)) and not more.endswith(b"\n"):
                    pass
                yield number, None if long else line
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror})") from None


def left_out(path: Path, numbers: Sequence[int], what: str) -> str:
    """A sentence on the lines of a file that are left out; the first ones are named. `what`: what the first one is."""
    others = ", ".join(map(str, numbers[1:MOST_NAMED]))
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return f"{path}:{numbers[0]}: {what}{f', and so are {others}{more}' if others else ''}; left out"


def mend_tail(path: Path) -> bool:
    """Cut off a last line that a crash left unfinished, so that more lines can be appended; returns whether there was.

    Raises StudyError if something other than a file is in the way; opening a pipe would wait for ever.
    """
    if path.exists() and not path.is_file():
        raise StudyError(f"{path}: is not a file; remove it, and run the same command again")
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if not end or _byte_before(file, end) == b"\n":
                return False
            file.truncate(_last_line_end(file, end))
            file.flush()
            os.fsync(file.fileno())
            return True
    except FileNotFoundError:
        return False


def is_unfinished(path: Path) -> bool:
    """Whether a file has a last line without an end; not if it is missing or no file."""
    try:
        with open_regular(path) as file:
            end = file.seek(0, os.SEEK_END)
            return bool(end) and _byte_before(file, end) != b"\n"
    except (OSError, Unreadable):
        return False


def _last_line_end(file: BinaryIO, end: int) -> int:
    """The place after the last line end before `end`; 0 if there is none."""
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _byte_before(file: BinaryIO, place: int) -> bytes:
    file.seek(place - 1)
    return file.read(1)


def _object_or_none(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _is_torn(line: bytes) -> bool:
    return not line.endswith(b"\n")


def _is_left_by_a_crash(line: bytes) -> bool:
    """Whether it is a last line without an end that is the beginning of a row, or blank bytes."""
    return _is_torn(line) and (line.startswith(b"{") or not line.strip(b"\0"))
