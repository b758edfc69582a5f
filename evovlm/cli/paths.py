"""Check where a command shall write, before its work begins. For the `callback` of an option. Knows typer."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from evovlm.system.plain_text import abridged


def new_folder(path: Path | None) -> Path | None:
    """Refuse a place where no folder can be made: a file, inside a file, not writable, or with too long a name."""
    if path is not None:
        _refuse(path)
        if os.path.lexists(path) and not path.is_dir():
            raise typer.BadParameter(f"{path} is not a folder; choose another name")
    return path


def new_file(path: Path | None) -> Path | None:
    """Refuse a place where no file can be written: a folder, a device, or a folder that is missing or not writable."""
    if path is not None:
        _refuse(path)
        if os.path.lexists(path) and not path.is_file():
            raise typer.BadParameter(f"{path} is not an ordinary file; choose another name")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is not a folder; create it first")
    return path


def _refuse(path: Path) -> None:
    """Refuse a path whose nearest existing folder is none, or cannot be written."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise typer.BadParameter(f"{abridged(str(path), 200)}: {error.strerror}") from None
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    folder = there if there.is_dir() else there.parent
    if there != path and not there.is_dir():
        raise typer.BadParameter(f"{path}: {there} is not a folder")
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{path}: {folder} cannot be written")
