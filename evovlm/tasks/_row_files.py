"""Read tables row by row: JSON lines, a JSON list, TSV, CSV, parquet. Only one row (of parquet: 16) is in memory.

Knows file formats; no tasks. Each reader yields a row's cells and where they stand (FILE:LINE, or FILE: row NUMBER).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import OTHER_ENCODINGS, open_regular
from evovlm.system.bounded_json import BadValue, shown
from evovlm.system.errors import DataError
from evovlm.tasks._json_rows import CHUNK, MOST_ROW, check_value, json_list, parse_json

Cells = dict[str, Any]
# A TSV is read as having no header (as MGSM's files), unless its first line contains this column name.
HEADED = "question"
BATCH = 16  # rows of parquet read at once
MOST_BATCH = 256 * 2**20  # bytes of these, images included
MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


def json_lines(path: Path) -> Iterator[tuple[Cells, str]]:
    """One object per line."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cells = parse_json(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}:{error.colno}: not valid JSON: {error.msg}; give one object per line") from None
        except BadValue as error:
            raise DataError(f"{where}: {error}") from None
        if not isinstance(cells, dict):
            raise DataError(f'{where}: not an object; give one object per line, such as {{"question": ...}}')
        yield cells, where


def json_rows(path: Path) -> Iterator[tuple[Cells, str]]:
    """A list of objects, or one object per line: some data sets name JSON-lines files .json."""
    with open_regular(path) as file:
        listed = file.read(CHUNK).removeprefix(MARK).lstrip()[:1] == b"["
        file.seek(0)
        if listed:
            for number, cells in enumerate(json_list(file, path), start=1):
                yield cells, f"{path}: row {number}"
            return
    yield from json_lines(path)


def tsv_rows(path: Path) -> Iterator[tuple[Cells, str]]:
    """Cells between tabs; without a header, the columns are "0", "1", ..."""
    names: list[str] | None = None
    for number, line in _lines(path):
        if not line.strip():
            continue
        where, cells = f"{path}:{number}", line.rstrip("\r\n").split("\t")
        if names is None and HEADED in cells:
            names = _columns(cells, where)
            continue
        names = names or []
        columns = names or [str(place) for place in range(len(cells))]
        if len(cells) > len(columns):
            raise DataError(f"{where}: {len(cells)} cells under {len(columns)} column names")
        yield _checked(dict(zip(columns, cells, strict=False)), where), where


def csv_rows(path: Path) -> Iterator[tuple[Cells, str]]:
    """Cells between commas, under a header; a cell in quotes may contain line breaks."""
    size = 0  # characters since the last complete row

    def fed() -> Iterator[str]:
        nonlocal size
        for number, line in _lines(path):
            size += len(line)
            if size > MOST_ROW:
                raise DataError(f"{path}:{number}: a row of more than {MOST_ROW:,} characters, the limit")
            yield from io.StringIO(line, newline="")  # an old Mac's line breaks, too

    reader = csv.reader(fed(), strict=True)
    names: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            hint = 'put "quotes" around text that contains commas, and write a quote in it twice'
            if "field limit" in str(error):
                hint = "use JSON lines for longer texts"
            raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}; {hint}") from None
        if cells is None:
            return
        where, size = f"{path}:{reader.line_num}", 0
        if names is None and cells:
            names = _columns(cells, where)
        elif names is not None and cells:
            if len(cells) > len(names):
                raise DataError(f'{where}: more cells than column names; put "quotes" around text that contains commas')
            missing = [None] * (len(names) - len(cells))
            yield _checked(dict(zip(names, [*cells, *missing], strict=True)), where), where


def parquet_rows(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[Cells, str]]:
    """Rows of the columns named, or of all."""
    number = 0
    for rows in _batches(path, columns):
        for cells in rows:
            number += 1
            where = f"{path}: row {number}"
            yield _checked(cells, where), where


def _batches(path: Path, columns: Sequence[str] | None) -> Iterator[list[Cells]]:
    import pyarrow.parquet

    with open_regular(path) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            there = set(table.schema_arrow.names)
            wanted = None if columns is None else [name for name in columns if name in there]
            batches = table.iter_batches(batch_size=BATCH, columns=wanted, use_threads=False)
            while (batch := next(batches, None)) is not None:
                if batch.nbytes > MOST_BATCH:
                    raise DataError(f"{path}: {BATCH} rows of {batch.nbytes:,} bytes; at most {MOST_BATCH:,}")
                yield batch.to_pylist()
        except DataError:
            raise
        except Exception as error:  # readers of broken files raise nearly anything
            raise DataError(f"{path}: not a complete parquet file ({shown(error)}); download it again") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their line breaks, without a byte-order mark."""
    with open_regular(path) as file:
        number = 0
        while line := file.readline(MOST_ROW + 1):
            number += 1
            if number == 1:
                encoding = next((name for mark, name in OTHER_ENCODINGS if line.startswith(mark)), None)
                if encoding:
                    raise DataError(f"{path}: cannot be read: it is {encoding}; save it as UTF-8")
                line = line.removeprefix(MARK)
            if len(line) > MOST_ROW:
                raise DataError(f"{path}:{number}: a line of more than {MOST_ROW:,} bytes, the limit; shorten it")
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode("utf-8")) + 1
                raise DataError(f"{path}:{number}:{column}: not UTF-8; save the file as UTF-8") from None


def _columns(names: list[str], where: str) -> list[str]:
    _checked(dict.fromkeys(names), where)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: two columns are called {shown(name)!r}; rename one")
        seen.add(name)
    return names


def _checked(cells: Cells, where: str) -> Cells:
    try:
        check_value(cells)
    except BadValue as error:
        raise DataError(f"{where}: {error}") from None
    return cells
