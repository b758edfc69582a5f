"""The study's files: the header, the append-only log of trials, answers, events. Reading and writing.

Knows file formats; no searchers, models or scores. Every line is flushed and synced before the search goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evovlm.system.errors import StudyError
from evovlm.system.files import append_rows, read_json, read_rows

HEADER = "study.json"
TRIALS = "trials.jsonl"
ANSWERS = "answers.jsonl"
EVENTS = "events.jsonl"
CACHE = "answers.sqlite"
ASKS = "asks.jsonl"  # which candidate was asked for when, where several are evaluated at a time
BEST = "best.yaml"
RESULT = "result.json"
# What a study in stages keeps beside its last stage: the stages before it, and the models that they bred.
STAGES = ("stage-1", "pool")
FRONT = "front"
ATLAS = "atlas.json"
ATLAS_RECIPES = "atlas"
RIVALS = "rivals"  # the searches that are controls of the study's own
HELD_OUT_ANSWERS = "heldout_answers.jsonl"


class Trial(BaseModel):
    """One line of the log: a candidate, what it scored, or why it failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial: int
    generation: int
    genome: tuple[float, ...]
    digest: str
    score: float | None
    spread: float | None
    exact: float | None
    seconds: dict[str, float]
    error: str | None
    values: tuple[float, ...] = ()  # all objectives, the score first; empty where the score is the only one
    # Of trials that several workers made: the number of the question, whether the searcher was told the score (not
    # where it came too late), and who made it.
    ask: int | None = None
    told: bool = True
    worker: str | None = None
    items: int | None = None  # how many items a raced candidate saw; its center is not told to the searcher
    # Where candidates are asked with less effort first: that score, and whether it was asked in full afterwards.
    cheap: float | None = None
    promoted: bool = True

    def line(self) -> dict[str, Any]:
        """The trial as its line of the log; what only a pool of workers knows is left out where there was none."""
        row = self.model_dump(mode="json")
        absent = {"ask": None, "told": True, "worker": None, "items": None, "cheap": None, "promoted": True}
        return {key: value for key, value in row.items() if key not in absent or value != absent[key]}


def read_header(folder: Path) -> dict[str, Any]:
    """The study's header. Raises StudyError where there is none or it is damaged."""
    path = folder / HEADER
    if not path.exists():
        raise StudyError(f"{folder}: not a study folder ({HEADER} is missing)")
    return read_json(path)


def refuse_foreign(folder: Path) -> None:
    """Raises StudyError where a folder holds something else than a study or its stages; hidden files are nobody's."""
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
            raise StudyError(f"{path}:{number + 1}: not a trial ({error.errors()[0]['msg']})") from None
        if trial.trial != number:
            raise StudyError(f"{path}:{number + 1}: trial {trial.trial} stands where {number} belongs")
        trials.append(trial)
    return trials


def log_event(folder: Path, event: str, **details: Any) -> None:
    """Note what happened to the study itself: started, resumed, a smaller batch."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    append_rows(folder / EVENTS, [{"time": now, "event": event, **details}])


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, the earliest of equals; None where none has a score.

    Scores at a lower fidelity alone do not count.
    """
    scored = [trial for trial in trials if trial.score is not None and trial.promoted]
    return max(scored, key=lambda trial: (trial.score, -trial.trial), default=None)
