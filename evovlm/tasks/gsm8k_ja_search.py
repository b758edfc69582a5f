"""GSM8K's test problems in Japanese without those of MGSM: the search set of the paper's language models.

Knows the layout of SakanaAI/gsm8k-ja-test_250-1319; no models. MGSM translates rows 0 to 249, so they are left out by
their row: translation hides the overlap from any comparison of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

from evovlm.system.errors import DataError
from evovlm.tasks._hub import HubSet
from evovlm.tasks._preset_parts import MATHS_CHAT, MATHS_CORRECTED, MATHS_PAPER, MATHS_SAMPLED, MATHS_SHORT
from evovlm.tasks.data_task import DataTask, chosen_preset, is_validation
from evovlm.tasks.marking import mark_number
from evovlm.tasks.metrics.numbers import extract_number
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row

NAME = "gsm8k-ja-search"
HUB = HubSet("SakanaAI/gsm8k-ja-test_250-1319")
PATTERNS = ("gsm8k-ja*.jsonl", "test*.jsonl", "*.jsonl", "**/*.parquet")
# Problems of MGSM and of GSM8K bear one kind of id, so that an overlap shows by id.
GSM8K_ID = "gsm8k-test-{:04d}"
MGSM_ROWS = 250
ALL_ROWS = 1319
QUESTION = ("question_ja", "question")
ANSWER = ("answer_number", "answer_ja", "answer")
PRESETS: Presets = {
    "paper": MATHS_PAPER,
    "corrected": MATHS_CORRECTED,
    "short": MATHS_SHORT,
    "sampled": MATHS_SAMPLED,
    "chat": MATHS_CHAT,
}


def gsm8k_ja_search(options: Options) -> Task:
    """The task: a fifth of the rows, by their id, is the validation split."""
    preset = chosen_preset(NAME, PRESETS, options)
    return DataTask(
        name=NAME,
        splits=("search", "validation"),
        test_splits=(),
        preset=preset,
        options=options,
        read=lambda split: [
            item
            for item in read_problems(options.rows(HUB, "test", PATTERNS), str(options.path or HUB.name))
            if is_validation(item.id) == (split == "validation")
        ],
        mark=lambda item, answer: mark_number(item, answer, options.japanese, preset.scoring),
    )


def read_problems(rows: Sequence[Row], where: str) -> list[Item]:
    """Rows 250 to 1318 of GSM8K's test split, from these rows or from all. `where` they are, for messages."""
    first = _first_row(rows, where)
    indices = [first + number if row.get("index") is None else row.whole("index") for number, row in enumerate(rows)]
    return [_item(index, row) for index, row in zip(indices, rows, strict=True) if index >= MGSM_ROWS]


def _first_row(rows: Sequence[Row], where: str) -> int:
    """Which row of GSM8K a file begins with. Raises DataError where that cannot be known."""
    if all(row.get("index") is not None for row in rows) or len(rows) == ALL_ROWS:
        return 0
    if len(rows) == ALL_ROWS - MGSM_ROWS:
        return MGSM_ROWS
    raise DataError(
        f"{where}: {len(rows)} rows; give all {ALL_ROWS} of GSM8K's test split, the {ALL_ROWS - MGSM_ROWS} from row"
        f" {MGSM_ROWS} on, or rows with a column `index`: rows of MGSM must be left out"
    )


def _item(index: int, row: Row) -> Item:
    answer = extract_number(row.text(*ANSWER))
    if answer is None:
        raise DataError(f"{row.where}: its answer holds no number")
    return Item(GSM8K_ID.format(index), row.text(*QUESTION), (answer,), None)
