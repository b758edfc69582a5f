"""JCommonsenseQA (JGLUE): questions with five choices, answered by number or by word.

Knows the layout of JGLUE's files; no models. The test split is JGLUE's validation file; search and validation are
parts of its training file.
"""

from __future__ import annotations

from collections.abc import Sequence

from evovlm.system.errors import DataError
from evovlm.tasks._data_task import DataTask, chosen_preset, is_validation
from evovlm.tasks._hub import HubSet
from evovlm.tasks._marking import mark_choice
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Preset, Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row

NAME = "jcommonsenseqa"
HUB = HubSet("sbintuitions/JCommonsenseQA")  # JGLUE's own files as parquet
TEST = ("valid*.json", "**/valid*.json*", "**/*validation*.parquet")
TRAIN = ("train*.json", "**/train*.json*", "**/*train*.parquet")
CHOICES = tuple(f"choice{number}" for number in range(5))
PRESETS: Presets = {
    "zero-shot": {
        "template": (
            "以下は、常識を問う問題と選択肢です。選択肢から正しい答えを一つ選び、その番号だけを答えてください。\n\n"
            "### 問題:\n{question}\n\n### 答え:"
        ),
        "max_new_tokens": 16,
        "stop": ["\n"],
    },
    "few-shot": {"shots": 3},
    "chat": {"chat": True, "template": "{question}\n\n正しい選択肢の番号だけを答えてください。"},
}


def jcommonsenseqa(options: Options) -> Task:
    """The task; few-shot examples are the first search questions of the training file.

    Raises DataError for an unknown preset, or if the preset needs examples and the training file cannot be read.
    """
    preset = chosen_preset(NAME, PRESETS, options)
    if preset.shots:
        preset = preset.model_copy(update={"template": _few_shot(options, preset)})
    return DataTask(
        name=NAME,
        splits=("search", "validation", "test"),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda split: _read(_rows(options, split), split),
        mark=mark_choice,
    )


def _rows(options: Options, split: str) -> list[Row]:
    if split == "test":
        return options.rows(HUB, "validation", TEST)
    if options.path is not None and options.path.is_file():
        raise DataError(f"{NAME}:{split}: {options.path} is one file; give the folder that also holds train*.json")
    return options.rows(HUB, "train", TRAIN)


def _read(rows: Sequence[Row], split: str) -> list[Item]:
    items = [_item(row) for row in rows]
    if split == "test":
        return items
    return [item for item in items if is_validation(item.id) == (split == "validation")]


def _item(row: Row) -> Item:
    choices = [row.text(name) for name in CHOICES]
    listed = "\n".join(f"{number}. {choice}" for number, choice in enumerate(choices))
    label = row.whole("label")
    if not 0 <= label < len(choices):
        raise DataError(f"{row.where}: label {label}; labels must be 0 to {len(choices) - 1}")
    question = f"{row.text('question')}\n\n### 選択肢:\n{listed}"
    return Item(f"jcqa-{row.text('q_id')}", question, (choices[label], str(label)), None)


def _few_shot(options: Options, preset: Preset) -> str:
    solved = _read(_rows(options, "search"), "search")[: preset.shots]
    shots = [f"{preset.template.replace('{question}', item.question)} {item.references[1]}" for item in solved]
    return "\n\n".join([*shots, preset.template])
