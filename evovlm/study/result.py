"""What a finished study found: the held-out table, how its winner was chosen, and what was measured on the way.

Knows the shape of `result.json`; no models, searches or reports. Files of older versions are read: what they lack has
a default, and what this version does not know is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evovlm.study import log as study_log
from evovlm.system import files
from evovlm.system.errors import StudyError


class _Part(BaseModel):
    """A mapping in `result.json`; keys that this version does not know are kept, so that writing loses nothing."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Difference(_Part):
    """The paired difference evolved minus another model, in points, with its 95 % bootstrap interval."""

    mean: float
    ci95: tuple[float, float]

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out."""
        low, high = self.ci95
        return low > 0 or high < 0


class Cell(_Part):
    """One model of the held-out table: its mean score (0 to 100), the 95 % interval, the share of exact answers.

    What follows `versus_evolved` says which model it is, and differs from row to row.
    """

    score: float
    exact: float  # 0 to 1
    ci95: tuple[float, float]
    items: int | None = None
    versus_evolved: Difference | None = None
    model: str | None = None  # of a source: its folder's name
    digest: str | None = None  # of the recipe that was judged
    trials: int | None = None  # of a search that is a control: its length
    source: str | None = None
    weight: float | None = None
    of: str | None = None  # what `weight` is the weight of
    source_and_weight: str | None = None
    chosen_on: str | None = None  # validation or search; None where there was nothing to choose, as for a source
    tries: int | None = None  # among how many candidates it was chosen


class HeldOut(_Part):
    """The held-out table: sources as they are, controls, and the evolved model."""

    sources: dict[str, Cell] = {}
    controls: dict[str, Cell] = {}
    evolved: Cell


class Finalist(_Part):
    """A candidate that was scored again to choose the winner."""

    trial: int
    search_score: float
    choice_score: float


class Selection(_Part):
    """How the winner was chosen. `luck`: its score in the search minus its score on the items of the choice."""

    trial: int
    search_score: float
    choice_score: float
    luck: float
    items: int | None = None
    finalists: tuple[Finalist, ...] = ()


class JudgedData(_Part):
    """The recipe's data, TASK:SPLIT each, with the number of search items and of those left out as too like others."""

    search: str | None = None
    validation: str | None = None
    test: str | None = None
    preset: str | None = None
    search_items: int | None = None
    left_out: int | None = None
    test_task: str | None = None  # by whose rules the held-out table is marked


class FrontPoint(_Part):
    """A point of the Pareto front: the trial, its recipe's place in the study, its value for each objective."""

    trial: int
    recipe: str
    values: dict[str, float]


class Front(_Part):
    """The Pareto front of a study with several objectives; `hypervolume` after each generation."""

    objectives: tuple[str, ...]
    points: tuple[FrontPoint, ...]
    hypervolume: tuple[float, ...] = ()


class MachineRates(_Part):
    """What the machine was measured to do: bytes a second, operations a second in `dtype`."""

    device: str
    copied: float = Field(alias="copy")  # read and written bytes both counted; `copy` is a method of pydantic's models
    matrix: float
    dtype: str
    upload: float | None = None  # bytes a second from pinned host memory to the GPU


class Phase(_Part):
    """The median seconds of one phase of a candidate, and of the least that the machine's rates allow."""

    seconds: float
    floor: float | None = None
    ratio: float | None = None


class Profile(_Part):
    """Seconds by phase over the trials that were timed, with the machine's rates."""

    trials: int
    rates: MachineRates
    phases: dict[str, Phase]


class AtlasSummary(_Part):
    """The atlas without its cells, which stand in `atlas.json`."""

    axes: tuple[str, ...]
    steps: int
    trials: int
    fresh_items: int
    coverage: float
    qd_score: float
    best: float


class Result(_Part):
    """What stands in a study's `result.json`."""

    digest: str = ""  # the winner's
    task: str = ""  # of the search
    data: JudgedData = JudgedData()
    trials: int | None = None
    selection: Selection | None = None
    held_out: HeldOut
    seed: int | None = None
    versions: dict[str, str] = {}
    hardware: str | None = None
    seconds: float | None = None
    front: Front | None = None
    profile: Profile | None = None
    atlas: AtlasSummary | None = None
    checkpoint: str | None = None  # the folder of the winner's checkpoint

    def content(self) -> dict[str, Any]:
        """The result as JSON has it: only what was set, so that a file that is read and written again is the same."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_result(folder: Path) -> Result | None:
    """The result of a study's folder; None where it has none yet. Raises StudyError where the file is damaged."""
    path = folder / study_log.RESULT
    if not path.exists():
        return None
    try:
        return Result.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        fault = f"{where}: {first['msg']}" if where else first["msg"]
    except ValueError as error:
        fault = str(error)
    raise StudyError(f"{path}: damaged ({fault}); delete it and run `evovlm evolve` again")


def write_result(folder: Path, result: Result) -> None:
    """Write `result.json` into a study's folder, whole or not at all."""
    files.write_json(folder / study_log.RESULT, result.content())
