"""Files that survive a crash: JSON and text written whole or not at all, JSON lines appended, flushed and synced.

Knows no file's meaning.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evovlm.system.errors import StudyError


def counted_from(root: Path, path: str | Path) -> Path:
    """A path as it counts from the folder `root`; an absolute one, or one of a home folder (`~`), stays as it is.

    Where there is no folder `root`, `..` is taken by the letter: the system would find nothing behind it.
    """
    own = Path(path).expanduser()
    return root / own if own.is_absolute() or root.is_dir() else Path(os.path.normpath(root / own))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises StudyError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{path}: damaged ({error}); start a new study in another folder") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: damaged (not a mapping); start a new study in another folder")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears whole or not at all, synced to disk."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all, synced to disk."""
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def append_rows(path: Path, rows: Iterable[dict[str, Any]], *, synced: bool = True) -> None:
    """Append JSON lines, flush and sync; not `synced` where more follows and `sync` ends it."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        if synced:
            os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Have what was appended to a file on the disk."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSON-lines file; nothing where there is no file. A torn last line is passed over."""
    if not path.exists():
        return
    for number, line in enumerate(_whole_lines(path.read_bytes()), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise StudyError(f"{path}:{number}: damaged line; restore the file or start a new study") from None
        yield row


def mend_tail(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that appending goes on cleanly."""
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
