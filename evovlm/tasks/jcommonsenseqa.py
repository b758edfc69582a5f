"""JCommonsenseQA (JGLUE): questions with five choices, answered by number or by word.

Knows the layout of JGLUE's files; no models. Test is JGLUE's validation file, search its training file.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.errors import DataError
from evovlm.tasks.data_task import DataTask, chosen_preset, is_validation
from evovlm.tasks.marking import mark_choice
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.presets import Preset
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row, read_rows

NAME = "jcommonsenseqa"
REPOSITORY = "sbintuitions/JCommonsenseQA"  # JGLUE's own files as parquet
WANTED = ("data/*.parquet",)
TEST = ("valid*.json", "**/valid*.json*", "**/*validation*.parquet")
TRAIN = ("train*.json", "**/train*.json*", "**/*train*.parquet")
CHOICES = tuple(f"choice{number}" for number in range(5))


def jcommonsenseqa(options: Options) -> Task:
    """The task; shots come from the first questions of the training file."""
    preset = chosen_preset(NAME, options)
    if preset.shots:
        preset = preset.model_copy(update={"template": _few_shot(options, preset)})
    return DataTask(
        name=NAME,
        splits=("search", "validation", "test"),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda split: _read(_located(options, split), split),
        mark=mark_choice,
    )


def _located(options: Options, split: str) -> list[Path]:
    where = options.locate(REPOSITORY, WANTED)
    if where.is_file() and split != "test":
        raise DataError(f"{NAME}:{split}: {where} is one file; give the folder with train*.json beside it")
    return files_at(where, TEST if split == "test" else TRAIN)


def _read(paths: list[Path], split: str) -> list[Item]:
    items = [_item(row) for path in paths for row in read_rows(path)]
    if split == "test":
        return items
    return [item for item in items if is_validation(item.id) == (split == "validation")]


def _item(row: Row) -> Item:
    choices = [row.text(name) for name in CHOICES]
    listed = "\n".join(f"{number}. {choice}" for number, choice in enumerate(choices))
    label = row.whole("label")
    if not 0 <= label < len(choices):
        raise DataError(f"{row.where}: label {label}; choices are numbered 0 to {len(choices) - 1}")
    question = f"{row.text('question')}\n\n### 選択肢:\n{listed}"
    return Item(f"jcqa-{row.text('q_id')}", question, (choices[label], str(label)), None)


def _few_shot(options: Options, preset: Preset) -> str:
    solved = _read(_located(options, "search"), "search")[: preset.shots]
    shots = [f"{preset.template.replace('{question}', item.question)} {item.references[1]}" for item in solved]
    return "\n\n".join([*shots, preset.template])
