"""Rows of data files: JSON, JSON lines, TSV, CSV and parquet as lists of mappings.

Knows file formats; no tasks and no images (a parquet image column stays bytes and path).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evovlm.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows of a file, by its ending. `columns`: the only ones that are wanted (saves memory for parquet).

    A TSV has no header (as MGSM's files): its columns are named "0", "1", ... Raises DataError with file and line.
    """
    readers: dict[str, Callable[[Path], list[Row]]] = {
        ".jsonl": _json_lines,
        ".json": _json,
        ".tsv": _tsv,
        ".csv": _csv,
        ".parquet": lambda file: _parquet(file, columns),
    }
    ending = path.suffix.lower()
    if ending not in readers:
        raise DataError(f"{path}: unknown kind of file; give one of {sorted(readers)}")
    try:
        return readers[ending](path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a file in UTF-8") from None


def field(row: Row, names: Sequence[str], where: str) -> Any:
    """The first of the named columns that a row has. Raises DataError with what it has."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise DataError(f"{where}: no column {' or '.join(names)}; it has {sorted(row)}")


def _json_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            rows.append(_row(line, f"{path}:{number}"))
    return rows


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error}); give one object a line") from None
    if not isinstance(row, dict):
        raise DataError(f'{where}: not an object; give one object a line, such as {{"question": ...}}')
    return row


def _json(path: Path) -> list[Row]:
    """A list of objects, or lines of them: some data sets name JSON lines .json."""
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("["):
        return _json_lines(path)
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from None
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: not a list of objects")
    return list(rows)


def _tsv(path: Path) -> list[Row]:
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [dict(zip(map(str, range(9)), line.rstrip("\r").split("\t"), strict=False)) for line in lines]


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _parquet(path: Path, columns: Sequence[str] | None) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        there = set(file.schema_arrow.names)
        wanted = None if columns is None else [name for name in columns if name in there]
        rows: list[Row] = file.read(columns=wanted).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: no whole parquet file ({error}); fetch it again") from None
    return rows
