"""Japanese questions about Visual Genome: the paper's 500 test images, and the search set without them.

Knows the layouts of SakanaAI/JA-VG-VQA-500 and of yahoojapan/ja-vg-vqa; no models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from evovlm.system.bounded_files import Unreadable, read_text
from evovlm.system.bounded_json import shown
from evovlm.system.errors import DataError
from evovlm.tasks._hub import HubSet
from evovlm.tasks._images import ENDINGS, picture
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.protocol import Item
from evovlm.tasks.records import Row, each_row, named

HUB = HubSet("SakanaAI/JA-VG-VQA-500")
TEST_FILES = ("data/test-*.parquet", "test-*.parquet", "test*.jsonl", "*.parquet")
QUESTION_FILES = ("question_answers*.json", "*.json", "*.jsonl")
TEST_IDS = "test_image_ids.txt"
MOST_LISTED = 2**20  # bytes; the ids of the 500 test images have 4,000
MOST_DIGITS = 18


def read_test(rows: Sequence[Row], questions: str) -> list[Item]:
    """The test images, each with its first question (`questions="first"`) or all. Raises DataError for bad rows."""
    items: list[Item] = []
    for row in rows:
        key = row.whole("image_id")
        items += _of_image(row, key, picture(row.value("image"), row.folder, f"image {key}"), questions)
    return items


def read_search(folder: Path, questions: str, left_out: Callable[[], set[int]]) -> list[Item]:
    """Items for every image that is in both the question file and the folder, except the ids in `left_out()`.

    Raises DataError if the folder is missing, has no images or holds malformed rows.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give the one with question_answers.json and Visual Genome's images")
    there = {path.stem: path for path in _images(folder)}
    if not there:
        raise DataError(f"{folder}: no images in it; add Visual Genome's, named by id, such as images/2417997.jpg")
    tests = left_out()
    items: list[Item] = []
    for path in files_at(folder, QUESTION_FILES):
        for row in each_row(path):
            key = row.whole("image_id", "id")
            if key in tests or str(key) not in there:
                continue
            items += _of_image(row, key, picture(there[str(key)], row.folder, f"image {key}"), questions)
    return items


def test_ids(folder: Path | None, options: Options) -> set[int]:
    """The ids of the test images: from a list or a copy of the test set in the folder, else from the hub's cache.

    Raises DataError if none of these is available.
    """
    if folder is not None and (folder / TEST_IDS).is_file():
        return _listed_ids(folder / TEST_IDS)
    local = None if folder is None else folder / "JA-VG-VQA-500"
    source = replace(options, path=local if local is not None and local.is_dir() else None)
    try:
        rows = source.rows(HUB, "test", TEST_FILES, columns=["image_id"])
    except DataError as error:
        raise DataError(
            f"the ids of the 500 test images, which must be excluded, are missing: put {TEST_IDS} (one id per line)"
            f" or a copy of the test set, JA-VG-VQA-500/, into {folder}; {error}"
        ) from None
    return {row.whole("image_id") for row in rows}


def _listed_ids(path: Path) -> set[int]:
    """The ids in a text file, separated by line breaks or commas."""
    try:
        words = re.findall(r"[^\s,]+", read_text(path, MOST_LISTED))
    except Unreadable as error:
        raise DataError(f"{error}; give a list of image ids") from None
    wrong = [word for word in words if not word.isdecimal() or len(word) > MOST_DIGITS]
    if wrong or not words:
        raise DataError(
            f"{path}: {shown(wrong[0])!r} is no image id; give one per line" if wrong else f"{path}: no ids in it"
        )
    return {int(word) for word in words}


def _images(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS)


def _of_image(row: Row, key: int, opens: Callable[[], Image.Image], questions: str) -> list[Item]:
    """One item per question; its id combines image id and question id."""
    asked = row.cells.get("qas")
    if (
        isinstance(asked, dict)
        and len({len(cells) if isinstance(cells, list) else -1 for cells in asked.values()}) == 1
    ):
        # Columns of lists of equal length, as some versions of `datasets` write lists of records.
        lists = [cells for cells in asked.values() if isinstance(cells, list)]
        asked = [dict(zip(asked, cells, strict=True)) for cells in zip(*lists, strict=True)]
    if not isinstance(asked, list) or not all(isinstance(qa, dict) for qa in asked):
        raise DataError(f"{row.where}: `qas` is not a list of questions; its columns are {named(row.cells)}")
    rows = [Row(qa, f"{row.where}, question {number}") for number, qa in enumerate(asked, start=1)]
    return [
        Item(f"vg-{key}-{qa.get('qa_id') or number}", qa.text("question"), qa.texts("answers", "answer"), opens)
        for number, qa in enumerate(rows[:1] if questions == "first" else rows)
    ]
