"""Read and write the study's files: the header and the append-only logs of trials, answers and events.

Knows file formats; no searchers, models or scores. What is logged is flushed and synced before the search continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evovlm.system.errors import StudyError, first_fault
from evovlm.system.files import append_rows, read_json, read_rows

FORMAT = 1  # of a study's files; a study of a newer format is refused
HEADER = "study.json"
TRIALS = "trials.jsonl"
ANSWERS = "answers.jsonl"
EVENTS = "events.jsonl"
HELD_OUT_ROW = "held-out row"  # the event of a row of the held-out table: its name, questions and seconds
CACHE = "answers.sqlite"
ASKS = "asks.jsonl"  # the order in which candidates were asked for, if several are evaluated at a time
BEST = "best.yaml"
RESULT = "result.json"
# A study in stages also keeps its earlier stages and the models that they built.
STAGES = ("stage-1", "pool")
FRONT = "front"
ATLAS = "atlas.json"
ATLAS_RECIPES = "atlas"
VECTORS = "vectors"  # task vectors that a method prepares once; made again if they are removed
RIVALS = "rivals"  # the baseline searches that the study is compared with
HELD_OUT_ANSWERS = "heldout_answers.jsonl"
TIE = 1e-9  # points: corrections of raced scores leave rounding of about 1e-14
# No value of ours is larger; a damaged file may hold any number, and sums and squares of them must be finite too.
MOST = 1e18
MOST_COUNTED = 10**9
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Gene = Annotated[float, Field(ge=-1e-6, le=1 + 1e-6)]  # from 0 to 1, but for rounding


class Trial(BaseModel):
    """One line of the log: a candidate with its score, or why it failed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    trial: Count
    generation: Count
    genome: tuple[Gene, ...]
    digest: str
    score: Number | None
    spread: Number | None
    exact: Number | None
    seconds: dict[str, Number]
    error: str | None
    values: tuple[Number, ...] = ()  # all objectives, the score first; empty if the score is the only one
    # With several workers: the number of the ask, whether the score was passed to the searcher (not if it came too
    # late), and which worker evaluated the candidate.
    ask: Count | None = None
    told: bool = True
    worker: str | None = None
    items: Count | None = None  # number of items a raced candidate was asked; a center's score is not told
    # With a lower fidelity first: the score at that fidelity, and whether the candidate was then evaluated in full.
    cheap: Number | None = None
    promoted: bool = True

    def line(self) -> dict[str, Any]:
        """The trial as a JSON object for the log, without optional fields that have their default value."""
        row = self.model_dump(mode="json")
        absent = {"ask": None, "told": True, "worker": None, "items": None, "cheap": None, "promoted": True}
        return {key: value for key, value in row.items() if key not in absent or value != absent[key]}


def read_header(folder: Path) -> dict[str, Any]:
    """The study's header. Raises StudyError if it is missing, damaged, or of a newer format."""
    path = folder / HEADER
    if not path.exists():
        raise StudyError(f"{folder}: not a study folder ({HEADER} is missing)")
    header = read_json(path)
    written = header.get("format", FORMAT)
    if not isinstance(written, int) or isinstance(written, bool):
        raise StudyError(f"{path}: `format` is {written!r}, not a number; restore the file")
    if written > FORMAT:
        raise StudyError(
            f"{path}: a study of format {written}, and this version of evovlm reads formats up to {FORMAT}; use the"
            " version that wrote it, or a newer one"
        )
    return header


def refuse_foreign(folder: Path) -> None:
    """Raises StudyError if a folder contains anything other than a study or its stages; hidden files are ignored."""
    if (folder / HEADER).exists() or not folder.exists():
        return
    if not folder.is_dir() or any(
        not path.name.startswith(".") and path.name not in STAGES for path in folder.iterdir()
    ):
        raise StudyError(f"{folder}: exists and is not a study; choose another folder with --out")


def read_trials(folder: Path) -> list[Trial]:
    """All trials of a study, in order. Raises StudyError for a damaged or misnumbered line."""
    path = folder / TRIALS
    trials = []
    for number, row in enumerate(read_rows(path)):
        try:
            trial = Trial.model_validate(row)
        except ValidationError as error:
            raise StudyError(f"{path}:{number + 1}: not a trial ({first_fault(error)}); restore the file") from None
        if trial.trial != number:
            raise StudyError(
                f"{path}:{number + 1}: found trial {trial.trial}, expected trial {number}; remove the line if it occurs"
                " twice, restore the file, or start a new study in another folder"
            )
        trials.append(trial)
    return trials


def refuse_other_lengths(folder: Path, trials: Sequence[Trial], genes: int) -> None:
    """Raise StudyError if a trial's genome has not as many numbers as the search has genes."""
    for trial in trials:
        if len(trial.genome) != genes:
            raise StudyError(
                f"{folder / TRIALS}:{trial.trial + 1}: `genome` has length {len(trial.genome)}, and the search has"
                f" {genes} genes; restore the file, or start a new study in another folder"
            )


class AskRow(BaseModel):
    """One line of the asks: a candidate's number, the trials that were logged before, its generation and genome."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    ask: Count
    after: Count
    generation: Count
    genome: tuple[Gene, ...]


def read_asks(folder: Path) -> list[AskRow]:
    """All asks of a study, in order. Raises StudyError for a damaged line."""
    path = folder / ASKS
    asks = []
    for number, row in enumerate(read_rows(path)):
        try:
            asks.append(AskRow.model_validate(row))
        except ValidationError as error:
            raise StudyError(f"{path}:{number + 1}: not an ask ({first_fault(error)}); restore the file") from None
    return asks


def log_event(folder: Path, event: str, **details: Any) -> None:
    """Log an event of the study itself, such as a start, a resume or a smaller batch."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    append_rows(folder / EVENTS, [{"time": now, "event": event, **details}])


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, the earliest of ties; None if no trial has a score.

    Trials scored only at a lower fidelity do not count.
    """
    return max(_comparable(trials), key=lambda trial: (trial.score, -trial.trial), default=None)


def tied(trials: Sequence[Trial]) -> int:
    """The number of candidates if their scores do not tell them apart, else 0.

    That is, if all that have a score at full fidelity, at least two, have the same one. They may differ in further
    objectives, such as latency, but these choose no winner.
    """
    scores = [trial.score or 0.0 for trial in _comparable(trials)]
    return len(scores) if len(scores) > 1 and max(scores) - min(scores) <= TIE else 0


def _comparable(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.score is not None and trial.promoted]
