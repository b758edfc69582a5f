"""JA-VLM-Bench-In-the-Wild: 50 questions about 42 pictures of Japan, a test set of the paper. Knows no models."""

from __future__ import annotations

from pathlib import Path

from evovlm.tasks.data_task import DataTask, chosen_preset
from evovlm.tasks.images import picture
from evovlm.tasks.marking import mark_words
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import read_rows

NAME = "ja-vlm-bench-in-the-wild"
REPOSITORY = "SakanaAI/JA-VLM-Bench-In-the-Wild"
WANTED = ("data/*.parquet", "*.parquet")
PATTERNS = ("data/test-*.parquet", "*.parquet", "**/*.parquet", "*.jsonl")


def in_the_wild(options: Options) -> Task:
    """The task: ROUGE-L with the language rule."""
    preset = chosen_preset(NAME, options)
    return DataTask(
        name=NAME,
        splits=("test",),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda _: _read(options.locate(REPOSITORY, WANTED)),
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
    )


def _read(where: Path) -> list[Item]:
    items: list[Item] = []
    for path in files_at(where, PATTERNS):
        for row in read_rows(path):
            key = f"wild-{len(items):02d}"
            opens = picture(row.value("image"), path.parent, key)
            items.append(Item(key, row.text("question"), row.texts("answer"), opens))
    return items
