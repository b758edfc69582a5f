"""MGSM in Japanese (arXiv:2210.03057): 250 word problems, the test set of the paper's language models.

Knows the layouts of juletxara/mgsm and of its source; no models. The problems are rows 0 to 249 of GSM8K's test split.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import Unreadable, read_text
from evovlm.system.bounded_json import BadValue
from evovlm.system.errors import DataError
from evovlm.tasks._data_task import DataTask, chosen_preset
from evovlm.tasks._hub import HubSet
from evovlm.tasks._json_rows import parse_json
from evovlm.tasks._marking import mark_number
from evovlm.tasks._preset_parts import MATHS_CHAT, MATHS_CORRECTED, MATHS_PAPER, MATHS_SAMPLED, MATHS_SHORT
from evovlm.tasks.gsm8k_ja_search import GSM8K_ID
from evovlm.tasks.options import Options, files_at
from evovlm.tasks.presets import Preset, Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row, read_rows

NAME = "mgsm-ja"
HUB = HubSet("juletxara/mgsm", "ja")
# The source's own files, or the hub's parquet files; there the exemplars are in train.
EXEMPLARS = ("exemplars*.json", "exemplars.py", "ja/train*.parquet")
PATTERNS = ("mgsm_ja.tsv", "ja/test*.parquet", "*ja*.jsonl")
PROBLEMS = 250
MOST_BYTES = 2**20  # of an exemplars file; MGSM's has 60,000
PRESETS: Presets = {
    "paper": MATHS_PAPER,
    "corrected": MATHS_CORRECTED,
    "short": MATHS_SHORT,
    "sampled": MATHS_SAMPLED,
    "chat": MATHS_CHAT,
    # The exemplars begin with 問題： and ステップごとの答え：.
    "few-shot": {
        "scoring": "corrected",
        "shots": 8,
        "template": "問題：{question}\nステップごとの答え：",
        "stop": ["\n\n問題", "問題："],
    },
}


def mgsm_ja(options: Options) -> Task:
    """The task; if the preset asks for `shots`, the exemplars are put into the template.

    Raises DataError for an unknown preset or missing exemplars.
    """
    preset = chosen_preset(NAME, PRESETS, options)
    if preset.shots:
        preset = preset.model_copy(update={"template": _few_shot(options, preset)})
    return DataTask(
        name=NAME,
        splits=("test",),
        test_splits=("test",),
        preset=preset,
        options=options,
        read=lambda split: read_problems(options.rows(HUB, split, PATTERNS), str(options.path or HUB.name)),
        mark=lambda item, answer: mark_number(item, answer, options.japanese, preset.scoring),
    )


def read_problems(rows: Sequence[Row], where: str) -> list[Item]:
    """The problems in order, with ids by GSM8K row. Raises DataError, naming `where`, unless there are exactly 250."""
    if len(rows) != PROBLEMS:
        raise DataError(f"{where}: {len(rows)} problems, but MGSM has {PROBLEMS}; download it again")
    return [
        Item(GSM8K_ID.format(number), row.text("question", "0"), (row.text("answer_number", "1", "answer"),), None)
        for number, row in enumerate(rows)
    ]


def _few_shot(options: Options, preset: Preset) -> str:
    """The template with solved exemplars before the question, a blank line between them."""
    if options.path is None:
        shots = _solved(options.rows(HUB, "train", EXEMPLARS))
    else:
        folder = options.path.parent if options.path.is_file() else options.path
        shots = _exemplars(files_at(folder, EXEMPLARS)[0])
    if len(shots) < preset.shots:
        raise DataError(f"{options.path or HUB.name}: {len(shots)} Japanese exemplars, {preset.shots} needed")
    # Braces in an exemplar need no escaping, because only {question} is ever replaced.
    return "\n\n".join([*(f"{question}\n{answer}" for question, answer in shots[: preset.shots]), preset.template])


def _exemplars(path: Path) -> list[tuple[str, str]]:
    """Questions and answers of the Japanese exemplars, in order.

    Read from MGSM's own Python file (parsed as a literal, never executed), from its JSON form, or from parquet.
    """
    if path.suffix == ".parquet":
        return _solved(read_rows(path))
    try:
        text = read_text(path, MOST_BYTES)
    except Unreadable as error:
        raise DataError(f"{error}; give MGSM's exemplars file") from None
    content: Any = _mapping(text, path)["exemplars"] if path.suffix == ".json" else _literal(text, path)
    try:
        shots = [(shot["q"], shot["a"]) for shot in content["ja"].values()]
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"{path}: no Japanese exemplars (`MGSM_EXEMPLARS['ja']`) in it") from None
    if not all(isinstance(part, str) for shot in shots for part in shot):
        raise DataError(f"{path}: a question or an answer is no text; give MGSM's exemplars file")
    return shots


def _solved(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row.text("question"), row.text("answer")) for row in rows]


def _literal(text: str, path: Path) -> Any:
    """The value that a Python file assigns to MGSM_EXEMPLARS; None if it assigns none."""
    try:
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MGSM_EXEMPLARS":
                return ast.literal_eval(node.value)
    except SyntaxError as error:
        raise DataError(f"{path}:{error.lineno}: not Python ({error.msg}); give MGSM's exemplars file") from None
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise DataError(f"{path}: not a literal that can be read; give MGSM's exemplars file") from None
    return None


def _mapping(text: str, path: Path) -> dict[str, Any]:
    """A JSON file that holds one object."""
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except BadValue as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, dict) or "exemplars" not in content:
        raise DataError(f"{path}: no key `exemplars` in it; give MGSM's exemplars file")
    return content
