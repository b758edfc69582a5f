"""Crash-safe files: JSON and text are written atomically; JSON lines are appended, flushed and synced.

Does not know what the files mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from evovlm.system.errors import StudyError


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping. Raises StudyError if it is damaged or not a mapping."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise StudyError(f"{path}: damaged ({error}); start a new study in another folder") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: damaged (not a mapping); start a new study in another folder")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically and sync it to disk."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically and sync it to disk."""
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def append_rows(path: Path, rows: Iterable[dict[str, Any]], *, synced: bool = True) -> None:
    """Append JSON lines and flush; also fsync if `synced`. Pass `synced=False` for a series that ends with `sync`.

    A last line that a crash or a full disk left unfinished is cut off first, so that it does not damage the new lines.
    """
    mend_tail(path)
    with path.open("a", encoding="utf-8") as file:
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

    Raises StudyError, with the line number, if a complete line is not a JSON object. With `tell`, such lines are left
    out instead, and `tell` is called once, with a sentence.
    """
    if not path.exists():
        return
    damaged = []
    for number, line in enumerate(_whole_lines(path.read_bytes()), start=1):
        row = _object_or_none(line)
        if row is not None:
            yield row
        elif tell is None:
            raise StudyError(f"{path}:{number}: damaged line; restore the file or start a new study")
        else:
            damaged.append(number)
    if damaged and tell is not None:
        rest = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        tell(f"{path}:{damaged[0]}: damaged line{rest}; left out")


def mend_tail(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that more lines can be appended."""
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if not end or _byte_before(file, end) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return


def _byte_before(file: BinaryIO, place: int) -> bytes:
    file.seek(place - 1)
    return file.read(1)


def _object_or_none(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # brackets nested too deep
        return None
    return row if isinstance(row, dict) else None


def _whole_lines(content: bytes) -> list[bytes]:
    return content[: content.rfind(b"\n") + 1].splitlines()
