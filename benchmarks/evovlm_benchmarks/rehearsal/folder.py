"""The folder of a rehearsal: it is marked when it is begun, because the steps delete what lies under their names.

Knows the marker and the folder's own files; runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evovlm.system import files
from evovlm.system.bounded_files import Unreadable
from evovlm.system.bounded_json import read_json
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged
from evovlm_benchmarks.rehearsal.rows import Row

MARKER = "rehearsal.json"
MOST_BYTES = 2**16


def begin_folder(folder: Path, size: str) -> None:
    """Make and mark the folder, or go on with one of the same size.

    Raises UserError if it holds files and no marker, or the marker of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    try:
        content = read_json(marker, MOST_BYTES)
    except FileNotFoundError:
        if any(folder.iterdir()):
            raise UserError(f"--work {folder}: holds files of something else; choose a new folder") from None
        files.write_json(marker, {"size": size})
        return
    except Unreadable as error:
        raise UserError(f"{error}; choose a new folder by --work") from None
    found = content.get("size") if isinstance(content, dict) else None
    if not isinstance(found, str):
        raise UserError(f"{marker}: names no size of a rehearsal; choose a new folder by --work")
    if found != size:
        told = abridged(found)
        raise UserError(
            f"--work {folder}: holds a rehearsal of size {told}; give `--size {told}`, or choose a new folder"
        )


def steps_to_run(
    folder: Path, chosen: Sequence[str], done: Mapping[str, Row], needs: dict[str, dict[str, str]]
) -> set[str]:
    """The chosen steps that have no row or failed, and chosen ones whose files are needed again and are gone.

    needs: of each step, in the order in which they run, the files that it reads by the name of the step that writes
    them. Raises UserError if a file is missing and the step that writes it is not among the chosen.
    """
    found = {name for name in chosen if is_open(done.get(name))}
    for name in reversed(needs):
        for maker, file in needs[name].items() if name in found else ():
            if (folder / file).exists():
                continue
            if maker not in chosen:
                raise UserError(
                    f"--steps: {name!r} reads {folder / file}, which is missing; add the step {maker!r},"
                    " which writes it"
                )
            found.add(maker)
    return found


def is_open(row: Row | None) -> bool:
    """Whether a step has still to be run: it has no row, or it failed."""
    return row is None or "failed" in row
