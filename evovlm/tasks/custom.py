"""Your own questions: a JSON, JSON-lines, CSV, TSV or parquet file, or a folder of images with such a file.

Knows the columns `question`, `reference` or `references`, and optionally `image`, `id`, `split`, `skill`; no models.
Rows and files that name no split are used for any split: it is then up to the user to keep splits apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evovlm.system.bounded_json import shown
from evovlm.system.errors import DataError
from evovlm.tasks._data_task import DataTask, Mark, chosen_preset
from evovlm.tasks._images import picture
from evovlm.tasks._marking import mark_number, mark_words, number_of
from evovlm.tasks._preset_parts import (
    MATHS_CHAT,
    MATHS_PAPER,
    MATHS_SAMPLED,
    MATHS_SHORT,
    VQA_CHAT,
    VQA_GREEDY,
    VQA_PALIGEMMA,
    VQA_PAPER,
    VQA_SAMPLED,
)
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.presets import Preset, Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row, each_row

VQA, MATHS = "custom-vqa", "custom-maths"
# Each split, and its names in other data sets.
SPLITS = {"search": ("search", "train"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
PATTERNS = ("*.jsonl", "*.parquet", "*.json", "*.csv", "*.tsv", "data/*.parquet")
QUESTION = ("question", "0")
REFERENCES = ("references", "reference", "answers", "answer", "1")
IMAGE = ("image", "file_name")  # the second is what `datasets` calls it in a folder of images
VQA_PRESETS: Presets = {
    "paper": {**VQA_PAPER, "questions": "all"},
    "greedy": VQA_GREEDY,
    "sampled": VQA_SAMPLED,
    "chat": VQA_CHAT,
    "paligemma": VQA_PALIGEMMA,
    "plain": {**VQA_GREEDY, "template": "<image>\n{question}\n"},
}
MATHS_PRESETS: Presets = {
    "paper": {**MATHS_PAPER, "scoring": "corrected"},
    "compatible": {"scoring": "compatible"},
    "short": MATHS_SHORT,
    "sampled": MATHS_SAMPLED,
    "chat": MATHS_CHAT,
    "plain": {"template": "{question}\n", "max_new_tokens": 64, "stop": []},
}


def custom_vqa(options: Options) -> Task:
    """Free-text answers, with or without images: ROUGE-L with the language rule.

    Raises DataError for an unknown preset; reading items raises it if the data are missing or malformed.
    """

    def marker(preset: Preset) -> Mark:
        return lambda item, answer: mark_words(item, answer, options.japanese)

    return _custom(VQA, VQA_PRESETS, options, marker)


def custom_maths(options: Options) -> Task:
    """Numeric answers: 100 if the number is right and the reasoning is in Japanese, else 0.

    Raises DataError for an unknown preset; reading items raises it if the data are missing or malformed.
    """

    def marker(preset: Preset) -> Mark:
        return lambda item, answer: mark_number(item, answer, options.japanese, preset.scoring)

    return _custom(MATHS, MATHS_PRESETS, options, marker)


def _custom(name: str, presets: Presets, options: Options, marker: Callable[[Preset], Mark]) -> Task:
    preset = chosen_preset(name, presets, options)

    def read(split: str) -> Iterator[Item]:
        if options.path is None:
            raise DataError(f"{name}: no data file given; name it as {name}@FILE:{split}")
        if not options.path.exists():
            raise DataError(f"{options.path}: no such file or folder")
        return read_items(options.path, split, preset.questions, numeric=name == MATHS)

    return DataTask(name, tuple(SPLITS), ("test",), preset, options, read, marker(preset))


def read_items(where: Path, split: str, questions: str, *, numeric: bool = False) -> Iterator[Item]:
    """The items of a split, one by one. `questions="first"` keeps only the first question about each image.

    `numeric`: each reference must hold a number.

    Raises DataError for malformed rows and duplicate ids.
    """
    seen: set[str | bytes] = set()
    known: dict[str, int] = {}
    for path in _files_of(where, split):
        rows = (row for row in each_row(path) if _split_of(row) in (None, split))
        for number, row in enumerate(rows, start=1):
            key = _image_key(row)
            if questions == "first" and key in seen:
                continue
            seen |= {key} - {""}
            item = _item(row, number)
            if numeric:
                _refuse_wordy(item, row)
            place = len(known) + 1
            first = known.setdefault(item.id, place)
            if first != place:
                raise DataError(
                    f"{where}: the id {shown(item.id)!r} of row {place} is that of row {first} too; give each row its"
                    " own `id`, or leave `id` out"
                )
            yield item


def _files_of(where: Path, split: str) -> list[Path]:
    """The files of a split. In a folder, a file named after a split, such as test.jsonl, serves only that split."""
    paths = files_at(where, PATTERNS)
    if where.is_file():
        return paths
    return [path for path in paths if SPLIT_OF.get(path.stem.partition("-")[0], split) == split]


def _split_of(row: Row) -> str | None:
    """The split that a row names. Raises DataError for an unknown name, so that no row is dropped silently."""
    if row.get("split") is None:
        return None
    name = row.text("split")
    if name not in SPLIT_OF:
        raise DataError(f"{row.where}: no split {shown(name)!r}; choose from {list(SPLITS)}")
    return SPLIT_OF[name]


def _refuse_wordy(item: Item, row: Row) -> None:
    """Raise DataError, naming the row, if a reference holds no number."""
    try:
        for reference in item.references:
            number_of(item, reference)
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from None


def _image_key(row: Row) -> str | bytes:
    """A key that identifies a row's image: its path or its bytes; "" without an image."""
    cell = row.get(*IMAGE)
    found = (cell.get("bytes") or cell.get("path")) if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else str(found or "")


def _item(row: Row, number: int) -> Item:
    question, references = row.text(*QUESTION), row.texts(*REFERENCES)
    key = None if row.get("id") is None else row.text("id")
    if key is None:
        # A row keeps its id when other rows are edited, and identical rows still get different ids.
        digest = hashlib.blake2b(f"{question}\n{references}\n{number}".encode(), digest_size=6).hexdigest()
        key = f"{number:05d}-{digest}"
    cell = row.get(*IMAGE)
    empty = next((name for name in IMAGE if row.cells.get(name) == ""), None)
    # In a table an empty cell is the only way to say that there is none.
    if cell is None and empty is not None and not row.is_of_table:
        raise DataError(f"{row.where}: {empty} is empty; give a path, or leave `{empty}` out to ask without an image")
    image = None if cell is None else picture(cell, row.folder, f"{row.where}: item {shown(key)}")
    skill = "" if row.get("skill") is None else row.text("skill")
    return Item(key, question, references, image, skill)
