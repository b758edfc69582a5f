"""Results on disk: one JSON file per model and task, and its answers in a JSON-lines file.

Knows the files; runs and draws nothing. docs/benchmarks.md describes the keys; `format` is raised when one changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evovlm.system import files
from evovlm.system.errors import StudyError, UserError, first_fault
from evovlm.system.statistics import bootstrap
from evovlm.tasks import Item, ItemScore, Task
from evovlm.tasks.item_sets import items_hash, numbered_pictures

FORMAT = 1
RESULTS, ANSWERS = "results", "answers"


class Answer(BaseModel):
    """One answer and its score."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: str
    question: str
    references: tuple[str, ...]
    answer: str
    score: float
    exact: bool
    beside: dict[str, float] = {}
    picture: str = ""  # a hash of the item's image; empty without one, or from an earlier version


class Result(BaseModel):
    """One model on one task. Scores are 0 to 100; `beside` holds the mean scores under other rules.

    `score` is the plain mean; `median` is the median of the bootstrapped means, which the paper reports. `exact` is the
    share of exact answers, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: int = FORMAT
    model: str
    path: str
    revision: str | None = None  # the hub's commit of the model, if it came from the hub
    task: str
    split: str
    items: int
    items_digest: str
    images_digest: str = ""  # of the items with their images; empty if they have none, or from an earlier version
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
    resumed: int = 0  # answers kept from a killed run; `seconds` excludes them
    versions: dict[str, str]
    hardware: str


class Failure(BaseModel):
    """A model that could not be opened, or could not answer a task. `task` None: all of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    path: str
    task: str | None
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a run ends with: a result of each pair, but for the failures."""

    results: list[Result]
    failures: list[Failure]


def slug(*parts: str) -> str:
    """A file name from several names, ending in a digest; characters other than letters, digits, . and - become _."""
    plain = "--".join(re.sub(r"[^\w.-]+", "_", part).strip("_.") for part in parts)
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=3).hexdigest()
    return f"{plain[:120]}-{digest}"


def digest_of(items: Iterable[Item]) -> str:
    """A hash over ids, questions and references of the items, in order."""
    content = [[item.id, item.question, item.references] for item in items]
    return hashlib.blake2b(json.dumps(content, ensure_ascii=False).encode(), digest_size=8).hexdigest()


def images_digest_of(items: Sequence[Item]) -> str:
    """A hash over ids, questions, references and images; empty if no item has an image.

    Raises DataError if an image cannot be read.
    """
    return items_hash(items) if any(item.image is not None for item in items) else ""


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
        picture=item.picture,
    )


def summary(answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Count, mean, 95 % bootstrap interval and median, share of exact answers, and the means of `beside`.

    Questions about one picture are resampled together.
    """
    interval = bootstrap([answer.score for answer in answers], seed=seed, clusters=numbered_pictures(answers))
    names = dict.fromkeys(name for answer in answers for name in answer.beside)
    return {
        "items": len(answers),
        "score": interval.mean,
        "ci95": (interval.low, interval.high),
        "median": interval.median,
        "exact": sum(answer.exact for answer in answers) / len(answers),
        "beside": {name: sum(answer.beside.get(name, 0.0) for answer in answers) / len(answers) for name in names},
    }


def read_answers(path: Path, tell: Callable[[str], None] | None = None) -> list[Answer]:
    """The complete lines of an answer file, in the order in which they were written.

    Raises UserError, naming the line, if one is damaged. With `tell`, damaged lines are left out, and it is called with
    a sentence.
    """
    found, wrong = [], []
    for number, row in files.numbered_rows(path, tell):
        try:
            found.append(Answer.model_validate(row))
        except ValidationError as error:
            if tell is None:
                raise UserError(f"{path}:{number}: not an answer ({first_fault(error)}); run the suite again") from None
            wrong.append(number)
    if wrong and tell is not None:
        tell(files.left_out(path, wrong, "not an answer"))
    return found


def mended_answers(path: Path, tell: Callable[[str], None]) -> list[Answer]:
    """The answers of a file that more are appended to; damaged lines are taken out of it, to be answered again."""
    files.mend_tail(path)
    told: list[str] = []
    found = read_answers(path, told.append)
    if told:
        files.write_text(path, "".join(f"{answer.model_dump_json()}\n" for answer in found))
    for sentence in told:
        tell(f"{sentence}, and answered again")
    return found


class Damaged(UserError):
    """A file that is no result."""


def read_result(path: Path) -> Result:
    """One result file. Raises Damaged if it is not one, and UserError if it is of another format."""
    try:
        content = files.read_json(path)
        written = content.get("format", FORMAT)
        if type(written) is int and written != FORMAT:
            raise UserError(f"{path}: result format {written}; this version reads format {FORMAT}")
        return Result.model_validate(content)
    except ValidationError as error:
        fault = first_fault(error)
    except StudyError as error:
        fault = str(error).removeprefix(f"{path}: ").partition(";")[0]
    raise Damaged(f"{path}: not a result of `evovlm bench run` ({fault})")


def has_results(place: Path) -> bool:
    """Whether a folder contains any result."""
    return any(place.glob(f"**/{RESULTS}/*.json"))


def find_results(places: Iterable[Path]) -> list[tuple[Path, Result]]:
    """Results (with their files) of run folders, folders of runs, and single files.

    Raises UserError if one of the places has no results.
    """
    found = []
    for place in places:
        paths = [place] if place.is_file() else sorted(place.glob(f"**/{RESULTS}/*.json"))
        if not paths and (place / "study.json").is_file():
            raise UserError(
                f"{place} is a study of `evovlm evolve`, no run of benchmarks; look at it with `evovlm report`"
            )
        if not paths:
            raise UserError(f"{place}: contains no results; create some with `evovlm bench run zoo --out {place}`")
        found += [(path, read_result(path)) for path in paths]
    return found


def answers_of(path: Path, result: Result) -> list[Answer]:
    """The answers behind a result, in the order in which they were written. Raises UserError if the file is missing."""
    file = path.parent.parent / result.answers
    if not file.is_file():
        raise UserError(f"{file}: the answers of {path} are missing; run the suite again")
    return read_answers(file)
