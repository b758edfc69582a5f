"""Answers made elsewhere: matched with a task's items by id or position, and scored.

Knows tasks and files; no models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evovlm.system.errors import DataError
from evovlm.tasks import Item, Task
from evovlm.tasks.records import Row, read_rows
from evovlm_benchmarks.runner.results import Answer, mark, summary

REFERENCES = ("references", "reference")
PREDICTION = ("prediction", "answer", "response")


def score_predictions(task: Task, split: str, path: Path, *, items: int | None, seed: int) -> dict[str, Any]:
    """What the answers of a file are worth: `summary` of the answers, how many were missing, and each answer.

    Rows with `reference` or `references` need no data of the task. Raises DataError that names file and line.
    """
    rows = read_rows(path)
    if not rows:
        raise DataError(f'{path}: no rows; give one a line, such as {{"id": ..., "prediction": ...}}')
    bare = [row for row in rows if row.get(*REFERENCES) is None]
    if not bare:
        asked = [_item(row, number) for number, row in enumerate(rows, start=1)]
    elif len(bare) < len(rows):
        raise DataError(f"{bare[0].where}: no reference, but other rows have one; give all or none")
    else:
        asked = task.items(split, items, seed)
    said = _match(asked, rows, path)
    answers = [mark(task, item, said.get(item.id) or "") for item in asked]
    missing = sum(said.get(item.id) is None for item in asked)
    return summary(answers, seed) | {"missing": missing, "answers": answers, "rules": dict(task.rules)}


def _match(asked: list[Item], rows: list[Row], path: Path) -> dict[str, str | None]:
    """Predictions by item id, None where one is null; rows without `id` answer the items in their order."""
    nameless = [row for row in rows if row.get("id") is None]
    if 0 < len(nameless) < len(rows):
        raise DataError(f"{nameless[0].where}: no `id`, but other rows have one; give all or none")
    if nameless and len(rows) != len(asked):
        raise DataError(f"{path}: {len(rows)} rows without `id` for {len(asked)} items; give each its `id`")
    known = {item.id for item in asked}
    keys = [item.id for item in asked] if nameless else [str(row.get("id")) for row in rows]
    said: dict[str, str | None] = {}
    for row, key in zip(rows, keys, strict=True):
        if key not in known:
            raise DataError(f"{row.where}: no item {key!r}; ids are such as {asked[0].id!r}")
        if key in said:
            raise DataError(f"{row.where}: item {key!r} is answered twice")
        said[key] = _prediction(row)
    return said


def _prediction(row: Row) -> str | None:
    """What a row answers, which may be nothing; None where it is null. Raises DataError without such a column."""
    name = next((name for name in PREDICTION if name in row.cells), PREDICTION[0])
    found = row.cells.get(name)
    if name not in row.cells or not isinstance(found, str | int | float | None):
        raise DataError(f"{row.where}: no text in `{name}`; its columns are {sorted(row.cells)}")
    return None if found is None else str(found)


def _item(row: Row, number: int) -> Item:
    key = row.get("id")
    return Item(str(number if key is None else key), str(row.get("question") or ""), row.texts(*REFERENCES), None)


def answer_rows(answers: list[Answer]) -> list[dict[str, Any]]:
    """Answers as JSON rows."""
    return [answer.model_dump(mode="json") for answer in answers]
