"""Results on disk: one JSON file a model and task, and its answers line by line beside it.

Knows the files; runs and draws nothing. docs/benchmarks.md describes the keys; `format` rises when one changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evovlm.system import files
from evovlm.system.errors import UserError
from evovlm.system.statistics import bootstrap
from evovlm.tasks import Item, ItemScore, Task

FORMAT = 1
RESULTS, ANSWERS = "results", "answers"


class Answer(BaseModel):
    """One answer and what it is worth."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    question: str
    references: tuple[str, ...]
    answer: str
    score: float
    exact: bool
    beside: dict[str, float] = {}


class Result(BaseModel):
    """One model on one task. Scores are 0 to 100; `beside` holds the means of what other rules would give.

    `median` is the median of the bootstrapped means, the paper's own figure; `score` is the plain mean.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    model: str
    path: str
    task: str
    split: str
    items: int
    items_digest: str
    seed: int
    score: float
    ci95: tuple[float, float]
    median: float
    exact: float
    beside: dict[str, float]
    rules: dict[str, Any]
    generation: dict[str, Any]
    sees: bool
    batch: int
    halved: list[int]
    overlap: dict[str, Any] | None
    answers: str  # path, relative to the run's folder
    seconds: float
    resumed: int = 0  # answers that stood from a run that was killed; `seconds` is without them
    versions: dict[str, str]
    hardware: str


def slug(*parts: str) -> str:
    """A file name of names: anything but letters, digits, dot and dash becomes an underscore, and a digest ends it."""
    plain = "--".join(re.sub(r"[^\w.-]+", "_", part).strip("_.") for part in parts)
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=3).hexdigest()
    return f"{plain[:120]}-{digest}"


def digest_of(items: Iterable[Item]) -> str:
    """A content hash of the questions and references of items, in order."""
    content = [[item.id, item.question, item.references] for item in items]
    return hashlib.blake2b(json.dumps(content, ensure_ascii=False).encode(), digest_size=8).hexdigest()


def mark(task: Task, item: Item, answer: str) -> Answer:
    """Score one answer."""
    found: ItemScore = task.score(item, answer)
    return Answer(
        id=item.id,
        question=item.question,
        references=item.references,
        answer=answer,
        score=found.score,
        exact=found.exact,
        beside=dict(found.beside),
    )


def summary(answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Mean, interval, median of the bootstrap, share of exact answers, and the means of `beside`."""
    interval = bootstrap([answer.score for answer in answers], seed=seed)
    names = dict.fromkeys(name for answer in answers for name in answer.beside)
    return {
        "items": len(answers),
        "score": interval.mean,
        "ci95": (interval.low, interval.high),
        "median": interval.median,
        "exact": sum(answer.exact for answer in answers) / len(answers),
        "beside": {name: sum(answer.beside.get(name, 0.0) for answer in answers) / len(answers) for name in names},
    }


def read_answers(path: Path) -> list[Answer]:
    """The whole lines of a file of answers, in the order in which they were made."""
    return [Answer.model_validate(row) for row in files.read_rows(path)]


def read_result(path: Path) -> Result:
    """One result file. Raises UserError where it is none."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format", FORMAT) != FORMAT:
            raise UserError(f"{path}: result format {content['format']}; this version reads {FORMAT}")
        return Result.model_validate(content)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: no result of `evovlm bench run` ({str(error).splitlines()[0]})") from None


def has_results(place: Path) -> bool:
    """Whether a folder holds any result."""
    return any(place.glob(f"**/{RESULTS}/*.json"))


def find_results(places: Iterable[Path]) -> list[tuple[Path, Result]]:
    """Results (with their files) of run folders, folders of runs, and single files. Raises UserError for none."""
    found = []
    for place in places:
        paths = [place] if place.is_file() else sorted(place.glob(f"**/{RESULTS}/*.json"))
        if not paths:
            raise UserError(f"{place}: no results in it; make some with `evovlm bench run zoo --out {place}`")
        found += [(path, read_result(path)) for path in paths]
    return found


def answers_of(path: Path, result: Result) -> list[Answer]:
    """The answers behind a result, in the order in which they were made. Raises UserError where they are gone."""
    file = path.parent.parent / result.answers
    if not file.is_file():
        raise UserError(f"{file}: the answers of {path} are gone; run the suite again")
    return read_answers(file)
