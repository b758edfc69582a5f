"""Anybody's questions: a JSON, JSON-lines, CSV, TSV or parquet file, or a folder of images with such a file.

Knows columns `question`, `reference` or `references`, and optionally `image`, `id`, `split`; no models. Rows without
`split` belong to whichever split is asked for: the file's role is then the user's word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from evovlm.errors import DataError
from evovlm.tasks.data_task import DataTask, Mark, chosen_preset
from evovlm.tasks.images import picture
from evovlm.tasks.marking import mark_number, mark_words
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.presets import Preset
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row, field, read_rows

VQA, MATHS = "custom-vqa", "custom-maths"
SPLITS = ("search", "validation", "test")
PATTERNS = ("*.jsonl", "*.parquet", "*.json", "*.csv", "*.tsv")
QUESTION = ("question", "0")
REFERENCES = ("references", "reference", "answers", "answer", "1")


def custom_vqa(options: Options) -> Task:
    """Answers in words, with or without images: ROUGE-L with the language rule."""
    return _custom(VQA, options, lambda preset: lambda item, answer: mark_words(item, answer, options.japanese))


def custom_maths(options: Options) -> Task:
    """Answers in numbers: 100 where the number is right and the reasoning Japanese."""

    def marker(preset: Preset) -> Mark:
        return lambda item, answer: mark_number(item, answer, options.japanese, preset.scoring)

    return _custom(MATHS, options, marker)


def _custom(name: str, options: Options, marker: Callable[[Preset], Mark]) -> Task:
    preset = chosen_preset(name, options)

    def read(split: str) -> list[Item]:
        if options.path is None:
            raise DataError(f"{name}: which file? name it as {name}@FILE:{split}")
        if not options.path.exists():
            raise DataError(f"{options.path}: no such file or folder")
        return read_items(options.path, split, preset.questions)

    return DataTask(name, SPLITS, ("test",), preset, options, read, marker(preset))


def read_items(where: Path, split: str, questions: str) -> list[Item]:
    """The items of a split. `questions: first` keeps the first question about each image."""
    items: list[Item] = []
    seen: set[str] = set()
    for path in files_at(where, PATTERNS):
        rows = [row for row in read_rows(path) if row.get("split") in (None, "", split)]
        for number, row in enumerate(rows, start=1):
            key = str(row["image"]) if questions == "first" and row.get("image") else None
            if key is not None and key in seen:
                continue
            seen.add(key or "")
            items.append(_item(row, path, number))
    twice = len(items) - len({item.id for item in items})
    if twice:
        raise DataError(f"{where}: {twice} ids stand twice; give each row its own `id`, or none")
    return items


def _item(row: Row, path: Path, number: int) -> Item:
    where = f"{path}:{number}"
    question = str(field(row, QUESTION, where))
    found = field(row, REFERENCES, where)
    references = tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)
    if not references:
        raise DataError(f"{where}: no reference; give `reference`, or `references` with at least one")
    # Ids follow content, so that the same row in two files is seen to be the same.
    digest = hashlib.blake2b(f"{question}\n{references}\n{number}".encode(), digest_size=6).hexdigest()
    key = str(row.get("id") or f"{number:05d}-{digest}")
    image = None if row.get("image") in (None, "") else picture(row["image"], path.parent, f"item {key}")
    return Item(key, question, references, image)
