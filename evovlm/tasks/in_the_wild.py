"""JA-VLM-Bench-In-the-Wild: 50 questions about 42 images of Japan, a test set of the paper. Knows no models."""

from __future__ import annotations

from evovlm.tasks._data_task import DataTask, chosen_preset
from evovlm.tasks._hub import HubSet
from evovlm.tasks._images import picture
from evovlm.tasks._marking import mark_words
from evovlm.tasks._preset_parts import VQA_CHAT, VQA_GREEDY, VQA_MISTRAL, VQA_PALIGEMMA, VQA_PAPER, VQA_SAMPLED
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row

NAME = "ja-vlm-bench-in-the-wild"
HUB = HubSet("SakanaAI/JA-VLM-Bench-In-the-Wild")
PATTERNS = ("data/test-*.parquet", "*.parquet", "**/*.parquet", "*.jsonl")
PRESETS: Presets = {
    "paper": {**VQA_PAPER, "questions": "all"},
    "greedy": VQA_GREEDY,
    "sampled": VQA_SAMPLED,
    "chat": VQA_CHAT,
    "paligemma": VQA_PALIGEMMA,
    "llava": VQA_MISTRAL,
}


def in_the_wild(options: Options) -> Task:
    """The task, scored by ROUGE-L with the language rule. Raises DataError for an unknown preset."""
    preset = chosen_preset(NAME, PRESETS, options)
    return DataTask(
        name=NAME,
        splits=("test",),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda split: [_item(number, row) for number, row in enumerate(options.rows(HUB, split, PATTERNS))],
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
    )


def _item(number: int, row: Row) -> Item:
    key = f"wild-{number:02d}"
    return Item(key, row.text("question"), row.texts("answer"), picture(row.value("image"), row.folder, key))
