"""Read data files (JSON, JSON lines, TSV, CSV, parquet) into rows that remember their file and line.

Knows types of cells; no tasks and no images (a parquet image column stays bytes and path).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import Unreadable
from evovlm.system.bounded_json import BadValue, shown
from evovlm.system.errors import DataError
from evovlm.tasks._json_rows import parse_json
from evovlm.tasks._row_files import csv_rows, json_lines, json_rows, parquet_rows, tsv_rows

__all__ = ["Row", "each_row", "named", "read_rows", "shown"]

# Characters of a question, or of a row's references together. A model that reads 128,000 tokens takes no more.
MOST_TEXT = 2**18
MOST_WHOLE = 20  # characters of a whole number
MOST_NAMED = 20  # columns that a message lists


@dataclass(frozen=True)
class Row:
    """Cells by column. `where`: FILE:LINE, or file and row number if the format has no lines; used in messages.

    A cell that is null, NaN or an empty string counts as missing. `folder`: paths in cells are relative to it.
    """

    cells: Mapping[str, Any]
    where: str
    folder: Path = Path()

    @property
    def is_of_table(self) -> bool:
        """Whether the row is a CSV's or a TSV's, whose cells are all texts."""
        return self.where.rpartition(":")[0].lower().endswith((".csv", ".tsv"))

    def get(self, *names: str) -> Any:
        """The first of the named cells that is not missing; None if all are."""
        return next((cell for cell in map(self.cells.get, names) if not _is_missing(cell)), None)

    def value(self, *names: str) -> Any:
        """As `get`. Raises DataError, listing the row's columns, if all are missing."""
        found = self.get(*names)
        if found is None:
            columns = f"its columns are {named(self.cells)}"
            if all(name.isdecimal() for name in self.cells):  # as a TSV without a header has them
                columns = f"the file has {len(self.cells)} columns and no header line with a column `question`"
            raise DataError(f"{self.where}: no value for {' or '.join(map(_column, names))}; {columns}")
        return found

    def text(self, *names: str) -> str:
        """A string or number as a string. Raises DataError for anything else, or if missing."""
        return self._plain(self.value(*names), names)

    def texts(self, *names: str) -> tuple[str, ...]:
        """One string, or a non-empty list of them; in a CSV or TSV cell, a list may be written as JSON.

        Raises DataError if missing, empty or of another type.
        """
        found = self.value(*names)
        if isinstance(found, str) and found.startswith("[") and self.is_of_table:
            found = _json_or_none(found, self.where) or found
        if not isinstance(found, list | tuple):
            return (self._plain(found, names),)
        if not found or any(_is_missing(cell) for cell in found):
            raise DataError(f"{self.where}: an empty {' or '.join(names)}; give a text, or a list of at least one")
        texts = tuple(self._plain(cell, names) for cell in found)
        if sum(map(len, texts)) > MOST_TEXT:
            raise DataError(f"{self.where}: {' or '.join(names)} has more than {MOST_TEXT:,} characters; shorten it")
        return texts

    def whole(self, *names: str) -> int:
        """A whole number. Raises DataError if the cell is not one."""
        found = self.text(*names)
        try:
            if len(found) <= MOST_WHOLE:
                return int(found)
        except ValueError:
            pass
        raise DataError(f"{self.where}: {' or '.join(names)} is {shown(found)!r}; give a whole number")

    def _plain(self, cell: Any, names: Sequence[str]) -> str:
        name = " or ".join(names)
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise DataError(f"{self.where}: {name} is a {type(cell).__name__}; give a text")
        if isinstance(cell, float) and not math.isfinite(cell):
            raise DataError(f"{self.where}: {name} is {cell}, or too large for a number; give it as a text in quotes")
        if isinstance(cell, str) and len(cell) > MOST_TEXT:
            raise DataError(f"{self.where}: {name} has {len(cell):,} characters; at most {MOST_TEXT:,} are allowed")
        return str(cell)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """All rows of a file, as `each_row` yields them."""
    return list(each_row(path, columns))


def _column(name: str) -> str:
    """A column's name in a message; those of a TSV without a header are counted from 0."""
    return f"column {int(name) + 1}" if name.isdecimal() else name


def each_row(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a file, read one by one; its suffix selects the format. `columns`: load only these (parquet only).

    A TSV without a header has columns "0", "1", ... Raises DataError, naming file and line, if the file is not a
    regular file, is unreadable or malformed, or has a row of more than 4 MiB.
    """
    readers: dict[str, Callable[[Path], Iterator[tuple[dict[str, Any], str]]]] = {
        ".jsonl": json_lines,
        ".json": json_rows,
        ".tsv": tsv_rows,
        ".csv": csv_rows,
        ".parquet": lambda file: parquet_rows(file, columns),
    }
    ending = path.suffix.lower()
    if ending not in readers:
        raise DataError(f"{path}: unknown file type; use one of {sorted(readers)}")
    try:
        for cells, where in readers[ending](path):
            yield Row(cells, where, path.parent)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Unreadable as error:
        raise DataError(f"{error}; give a data file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the disk") from None


def named(columns: Iterable[str]) -> list[str]:
    """The names of columns as messages list them: the first ones in order, not too long."""
    return [shown(name) for name in sorted(columns)[:MOST_NAMED]]


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell) or (isinstance(cell, float) and math.isnan(cell))


def _json_or_none(text: str, where: str) -> Any:
    """A list in a cell; None if the text is no JSON. Raises DataError for JSON that we do not accept."""
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return None
    except BadValue as error:
        raise DataError(f"{where}: {error}") from None
