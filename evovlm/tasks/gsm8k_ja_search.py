"""GSM8K's test problems in Japanese without those of MGSM: the search set of the paper's language models.

Knows the layout of SakanaAI/gsm8k-ja-test_250-1319; no models. MGSM translates rows 0 to 249, so they are excluded by
row number: because they are translated, comparing texts would not find the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from evovlm.system.errors import DataError
from evovlm.tasks._data_task import DataTask, chosen_preset, is_validation
from evovlm.tasks._hub import HubSet
from evovlm.tasks._marking import mark_number
from evovlm.tasks._preset_parts import MATHS_CHAT, MATHS_CORRECTED, MATHS_PAPER, MATHS_SAMPLED, MATHS_SHORT
from evovlm.tasks.metrics.numbers import extract_number
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Presets
from evovlm.tasks.protocol import Item, Task
from evovlm.tasks.records import Row

NAME = "gsm8k-ja-search"
HUB = HubSet("SakanaAI/gsm8k-ja-test_250-1319")
PATTERNS = ("gsm8k-ja*.jsonl", "test*.jsonl", "*.jsonl", "**/*.parquet")
# Problems of MGSM and GSM8K use the same id format, so that an overlap shows up as equal ids.
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
    """The task; a fifth of the rows, chosen by id, is the validation split. Raises DataError for an unknown preset."""
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
    """Rows 250 to 1318 of GSM8K's test split, from a file of just these rows or of all. `where`: for messages.

    Raises DataError if the row numbers cannot be inferred or an answer holds no number.
    """
    first = _first_row(rows, where)
    indices = [first + number if row.get("index") is None else row.whole("index") for number, row in enumerate(rows)]
    return [_item(index, row) for index, row in zip(indices, rows, strict=True) if index >= MGSM_ROWS]


def _first_row(rows: Sequence[Row], where: str) -> int:
    """The GSM8K row number of a file's first row. Raises DataError if it cannot be inferred."""
    if all(row.get("index") is not None for row in rows) or len(rows) == ALL_ROWS:
        return 0
    if len(rows) == ALL_ROWS - MGSM_ROWS:
        return MGSM_ROWS
    raise DataError(
        f"{where}: {len(rows)} rows; give all {ALL_ROWS} of GSM8K's test split, the {ALL_ROWS - MGSM_ROWS} from row"
        f" {MGSM_ROWS} on, or rows with a column `index`, so that MGSM's rows can be excluded"
    )


def _item(index: int, row: Row) -> Item:
    answer = extract_number(row.text(*ANSWER))
    if answer is None:
        raise DataError(f"{row.where}: its answer contains no number; correct or drop the row")
    return Item(GSM8K_ID.format(index), row.text(*QUESTION), (answer,), None)
