"""Japanese word problems, scored as MGSM-JA: the number right and the reasoning in Japanese. Knows no models."""

from __future__ import annotations

import re

from evovlm.tasks._marking import mark_number, says_number
from evovlm.tasks.made_task import MadeTask, refuse_choices
from evovlm.tasks.metrics.numbers import extract_number
from evovlm.tasks.options import Options
from evovlm.tasks.protocol import Generation, Item, Task
from evovlm.zoo.problems import sample_problems
from evovlm.zoo.prompts import LLM_PROMPT, MAX_NEW_TOKENS_MATHS
from evovlm.zoo.splits import kind_of

NAME = "zoo-maths"
_DENIED = re.compile(r"(?:では|じゃ)(?:ない|ありません)(?:です)?[。.]?\s*$")  # 答えは21ではありません
_END = 100  # characters in which an answer's last words are looked for


def zoo_maths(options: Options) -> Task:
    """Problems of one or two steps. Raises DataError if given a data path or a preset."""
    refuse_choices(NAME, options)
    scoring = options.scoring or "corrected"
    return MadeTask(
        name=NAME,
        generation=Generation(LLM_PROMPT, MAX_NEW_TOKENS_MATHS),
        make=_make,
        mark=lambda item, answer: mark_number(item, answer, options.japanese, scoring),
        judged={"scoring": scoring, "language": options.detector},
        right=lambda item, answer: says_number(item, answer, "corrected") and not _denied(answer),
        restyled=_restyled,
    )


def _make(split: str, count: int, seed: int) -> list[Item]:
    problems = sample_problems(split, count, seed, "ja")  # type: ignore[arg-type]
    return [Item(found.id, found.question, (found.answer,), None, kind_of(found.id)) for found in problems]


def _restyled(item: Item, answer: str) -> str:
    """The number that the answer gives, in Japanese; unchanged if it gives none."""
    found = None if _denied(answer) else extract_number(answer, "corrected")
    return answer if found is None else f"答えは{found}です"


def _denied(answer: str) -> bool:
    """Whether an answer ends with a denial of its number."""
    return _DENIED.search(answer[-_END:]) is not None
