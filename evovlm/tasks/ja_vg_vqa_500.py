"""JA-VG-VQA-500: the paper's test set of 500 Visual Genome images with Japanese questions. Knows no models."""

from __future__ import annotations

from evovlm.tasks._data_task import DataTask, chosen_preset
from evovlm.tasks._marking import mark_words
from evovlm.tasks._preset_parts import VQA_CHAT, VQA_GREEDY, VQA_MISTRAL, VQA_PALIGEMMA, VQA_PAPER, VQA_SAMPLED
from evovlm.tasks._visual_genome import HUB, TEST_FILES, read_test
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Presets
from evovlm.tasks.protocol import Task

NAME = "ja-vg-vqa-500"
PRESETS: Presets = {
    "paper": {**VQA_PAPER, "questions": "first"},
    "greedy": VQA_GREEDY,
    "sampled": VQA_SAMPLED,
    "chat": VQA_CHAT,
    "paligemma": VQA_PALIGEMMA,
    "llava": VQA_MISTRAL,
    "all-questions": {"questions": "all"},
}


def ja_vg_vqa_500(options: Options) -> Task:
    """The task, scored by ROUGE-L with the language rule; uses each image's first question unless the preset says all.

    Raises DataError for an unknown preset.
    """
    preset = chosen_preset(NAME, PRESETS, options)
    return DataTask(
        name=NAME,
        splits=("test",),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda split: read_test(options.rows(HUB, split, TEST_FILES), preset.questions),
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
    )
