"""Answers made elsewhere: matched with a task's items by id or position, and scored.

Knows tasks and files; no models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import Answer, mark, summary
from evovlm.errors import DataError
from evovlm.tasks import Item, Task
from evovlm.tasks.records import Row, field, read_rows

REFERENCES = ("references", "reference")
PREDICTION = ("prediction", "answer", "response")


def score_predictions(task: Task, split: str, path: Path, *, items: int | None, seed: int) -> dict[str, Any]:
    """What the answers of a file are worth: `summary` of the answers, how many were missing, and each answer.

    Rows with `reference` or `references` need no data of the task. Raises DataError that names file and line.
    """
    rows = read_rows(path)
    if not rows:
        raise DataError(f'{path}: no rows; give one a line, such as {{"id": ..., "prediction": ...}}')
    own = [any(row.get(name) is not None for name in REFERENCES) for row in rows]
    if all(own):
        asked = [_item(row, f"{path}:{number}", number) for number, row in enumerate(rows, start=1)]
    elif any(own):
        raise DataError(f"{path}:{own.index(False) + 1}: no reference, but other rows have one; give all or none")
    else:
        asked = task.items(split, items, seed)
    said = _match(asked, rows, path)
    answers = [mark(task, item, said.get(item.id, "")) for item in asked]
    missing = len(asked) - len(said)
    return summary(answers, seed) | {"missing": missing, "answers": answers, "rules": dict(task.rules)}


def _match(asked: list[Item], rows: list[Row], path: Path) -> dict[str, str]:
    """Predictions by item id; rows without `id` answer the items in their order."""
    named = ["id" in row for row in rows]
    if any(named) and not all(named):
        raise DataError(f"{path}:{named.index(False) + 1}: no `id`, but other rows have one; give all or none")
    if not all(named) and len(rows) != len(asked):
        raise DataError(f"{path}: {len(rows)} rows without `id` for {len(asked)} items; give each its `id`")
    known = {item.id for item in asked}
    keys = [str(row["id"]) for row in rows] if all(named) else [item.id for item in asked]
    said: dict[str, str] = {}
    for number, (row, key) in enumerate(zip(rows, keys, strict=True), start=1):
        where = f"{path}:{number}"
        if key not in known:
            raise DataError(f"{where}: no item {key!r}; ids are such as {asked[0].id!r}")
        if key in said:
            raise DataError(f"{where}: item {key!r} is answered twice")
        found = next((row[name] for name in PREDICTION if name in row), None)
        said[key] = "" if found is None and "prediction" in row else str(field(row, PREDICTION, where))
    return said


def _item(row: Row, where: str, number: int) -> Item:
    found = field(row, REFERENCES, where)
    references = tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)
    if not references:
        raise DataError(f"{where}: `references` is empty; give at least one")
    return Item(str(row.get("id", number)), str(row.get("question", "")), references, None)


def answer_rows(answers: list[Answer]) -> list[dict[str, Any]]:
    """Answers as JSON rows."""
    return [answer.model_dump(mode="json") for answer in answers]
