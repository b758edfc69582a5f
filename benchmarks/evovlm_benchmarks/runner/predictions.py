"""Score answers generated elsewhere, matched with a task's items by id or position.

Knows tasks and files; no models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evovlm.system.bounded_json import shown
from evovlm.system.errors import DataError
from evovlm.tasks import Item, Task
from evovlm.tasks.records import Row, named, read_rows
from evovlm_benchmarks.runner.results import Answer, mark, summary

REFERENCES = ("references", "reference")
PREDICTION = ("prediction", "answer", "response")


def score_predictions(task: Task, split: str, path: Path, *, items: int | None, seed: int) -> dict[str, Any]:
    """Score the answers of a file: `summary` plus `missing` (count), `answers` (each one) and `rules`.

    Rows with `reference` or `references` need no task data. Raises DataError, naming file and line, for bad rows.
    """
    rows = read_rows(path)
    if not rows:
        raise DataError(f'{path}: no rows; give one per line, such as {{"id": ..., "prediction": ...}}')
    bare = [row for row in rows if row.get(*REFERENCES) is None]
    if not bare:
        asked = [_item(row, number) for number, row in enumerate(rows, start=1)]
    elif len(bare) < len(rows):
        raise DataError(f"{bare[0].where}: no reference, but other rows have one; give it in all rows or in none")
    else:
        try:
            asked = task.items(split, items, seed)
        except DataError as error:
            raise DataError(f"{bare[0].where}: no `reference`, and without it: {error}") from None
    said = _match(asked, rows, path)
    places = {} if bare else {item.id: row.where for item, row in zip(asked, rows, strict=True)}
    answers = [_marked(task, item, said.get(item.id) or "", places.get(item.id)) for item in asked]
    missing = sum(said.get(item.id) is None for item in asked)
    return summary(answers, seed) | {"missing": missing, "answers": answers, "rules": dict(task.rules)}


def _marked(task: Task, item: Item, answer: str, where: str | None) -> Answer:
    """The answer's score. Raises DataError, naming the row, if the item cannot be scored."""
    try:
        return mark(task, item, answer)
    except DataError as error:
        raise DataError(f"{where}: {error}" if where else str(error)) from None


def _match(asked: list[Item], rows: list[Row], path: Path) -> dict[str, str | None]:
    """Predictions by item id, None for null; rows without `id` are matched to the items in order."""
    nameless = [row for row in rows if row.get("id") is None]
    if 0 < len(nameless) < len(rows):
        raise DataError(f"{nameless[0].where}: no `id`, but other rows have one; give it in all rows or in none")
    if nameless and len(rows) != len(asked):
        raise DataError(f"{path}: {len(rows)} rows without `id` for {len(asked)} items; add an `id` to each row")
    known = {item.id for item in asked}
    keys = [item.id for item in asked] if nameless else [str(row.get("id")) for row in rows]
    said: dict[str, str | None] = {}
    for row, key in zip(rows, keys, strict=True):
        if key not in known:
            raise DataError(f"{row.where}: no item {shown(key)!r}; ids look like {shown(asked[0].id)!r}")
        if key in said:
            raise DataError(f"{row.where}: item {shown(key)!r} is answered twice; keep one row per item")
        said[key] = _prediction(row)
    return said


def _prediction(row: Row) -> str | None:
    """A row's answer, which may be empty; None for null. Raises DataError if there is no such column."""
    name = next((name for name in PREDICTION if name in row.cells), PREDICTION[0])
    found = row.cells.get(name)
    if name not in row.cells or not isinstance(found, str | int | float | None):
        raise DataError(f"{row.where}: no text in `{name}`; its columns are {named(row.cells)}")
    return None if found is None else str(found)


def _item(row: Row, number: int) -> Item:
    key = row.get("id")
    return Item(str(number if key is None else key), str(row.get("question") or ""), row.texts(*REFERENCES), None)


def answer_rows(answers: list[Answer]) -> list[dict[str, Any]]:
    """Answers as JSON rows."""
    return [answer.model_dump(mode="json") for answer in answers]
