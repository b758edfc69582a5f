"""Crash-safe files: JSON and text are written atomically; JSON lines are appended, flushed and synced.

Does not know what the files mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evovlm.system.errors import StudyError, UserError


def counted_from(root: Path, path: str | Path) -> Path:
    """Resolve a path relative to the folder `root`; absolute paths and paths in a home folder (`~`) are kept.

    If the folder `root` does not exist, `..` is resolved textually, because the file system could not resolve it.
    Raises UserError for a home folder that is not known.
    """
    try:
        own = Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user, or no home folder; write the folder out") from None
    return root / own if own.is_absolute() or root.is_dir() else Path(os.path.normpath(root / own))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping. Raises StudyError if it is damaged or not a mapping."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
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
    """Append JSON lines and flush; also fsync if `synced`. Pass `synced=False` for a series that ends with `sync`."""
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


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file; yields nothing if it is missing. Skips an unfinished last line.

    Raises StudyError, with the line number, if a complete line is not JSON.
    """
    if not path.exists():
        return
    for number, line in enumerate(_whole_lines(path.read_bytes()), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise StudyError(f"{path}:{number}: damaged line; restore the file or start a new study") from None
        yield row


def mend_tail(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that more lines can be appended."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(content: bytes) -> list[bytes]:
    return content[: content.rfind(b"\n") + 1].splitlines()
