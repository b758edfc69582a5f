"""Read data files (JSON, JSON lines, TSV, CSV, parquet) into rows that remember their file and line.

Knows file formats; no tasks and no images (a parquet image column stays bytes and path).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evovlm.system.errors import DataError

# A TSV is read as having no header (as MGSM's files), unless its first line contains this column name.
HEADED = "question"


@dataclass(frozen=True)
class Row:
    """Cells by column. `where`: FILE:LINE, or file and row number if the format has no lines; used in messages.

    A cell that is null, NaN or an empty string counts as missing. `folder`: paths in cells are relative to it.
    """

    cells: Mapping[str, Any]
    where: str
    folder: Path = Path()

    def get(self, *names: str) -> Any:
        """The first of the named cells that is not missing; None if all are."""
        return next((cell for cell in map(self.cells.get, names) if not _is_missing(cell)), None)

    def value(self, *names: str) -> Any:
        """As `get`. Raises DataError, listing the row's columns, if all are missing."""
        found = self.get(*names)
        if found is None:
            raise DataError(f"{self.where}: no value for {' or '.join(names)}; its columns are {sorted(self.cells)}")
        return found

    def text(self, *names: str) -> str:
        """A string or number as a string. Raises DataError for anything else, or if missing."""
        return self._plain(self.value(*names), names)

    def texts(self, *names: str) -> tuple[str, ...]:
        """One string, or a non-empty list of them; in a CSV or TSV cell, a list may be written as JSON.

        Raises DataError if missing, empty or of another type.
        """
        found = self.value(*names)
        if isinstance(found, str) and found.startswith("[") and self.where.partition(":")[0].endswith((".csv", ".tsv")):
            found = _json_or_none(found) or found
        if not isinstance(found, list | tuple):
            return (self._plain(found, names),)
        if not found or any(_is_missing(cell) for cell in found):
            raise DataError(f"{self.where}: an empty {' or '.join(names)}; give a text, or a list of at least one")
        return tuple(self._plain(cell, names) for cell in found)

    def whole(self, *names: str) -> int:
        """A whole number. Raises DataError if the cell is not one."""
        found = self.text(*names)
        try:
            return int(found)
        except ValueError:
            raise DataError(f"{self.where}: {' or '.join(names)} is {found!r}; give a whole number") from None

    def _plain(self, cell: Any, names: Sequence[str]) -> str:
        if not isinstance(cell, str | int | float):
            raise DataError(f"{self.where}: {' or '.join(names)} is a {type(cell).__name__}; give a text")
        return str(cell)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows of a file; its suffix selects the format. `columns`: load only these (parquet only; saves memory).

    A TSV without a header has columns "0", "1", ... Raises DataError, naming file and line, if the file is unreadable
    or malformed.
    """
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".jsonl": _json_lines,
        ".json": _json,
        ".tsv": _tsv,
        ".csv": _csv,
        ".parquet": lambda file: _parquet(file, columns),
    }
    ending = path.suffix.lower()
    if ending not in readers:
        raise DataError(f"{path}: unknown file type; use one of {sorted(readers)}")
    try:
        return [replace(row, folder=path.parent) for row in readers[ending](path)]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a UTF-8 file") from None


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell) or (isinstance(cell, float) and math.isnan(cell))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; blank ones are skipped and a byte-order mark is dropped."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        yield _row(line, f"{path}:{number}")


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}); give one object per line") from None
    if not isinstance(row, dict):
        raise DataError(f'{where}: not an object; give one object per line, such as {{"question": ...}}')
    return Row(row, where)


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, or one object per line: some data sets name JSON-lines files .json."""
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        yield from _json_lines(path)
        return
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); give a list of objects") from None
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{path}: not a list of objects; give rows such as {{"question": ...}}')
    yield from (Row(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1))


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _tsv(path: Path) -> Iterator[Row]:
    names: list[str] | None = None
    for number, line in _lines(path):
        cells = line.split("\t")
        if names is None and HEADED in cells:
            names = cells
            continue
        names = names or []
        columns = names or [str(place) for place in range(len(cells))]
        if len(cells) > len(columns):
            raise DataError(f"{path}:{number}: {len(cells)} cells under {len(columns)} column names")
        yield Row(dict(zip(columns, cells, strict=False)), f"{path}:{number}")


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row:
                raise DataError(f'{where}: more cells than column names; put "quotes" around text that contains commas')
            yield Row(row, where)


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        there = set(file.schema_arrow.names)
        wanted = None if columns is None else [name for name in columns if name in there]
        rows: list[dict[str, Any]] = file.read(columns=wanted).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a complete parquet file ({error}); download it again") from None
    yield from (Row(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1))
