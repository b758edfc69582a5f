"""The result of a finished study: the held-out table, how its winner was chosen, measurements, and its atlas.

Knows the schemas of `result.json` and `atlas.json`; no models, searches or reports. Reads files of older versions:
missing keys have defaults, and unknown keys are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evovlm.study import log as study_log
from evovlm.study.log import Count, Number
from evovlm.system import files
from evovlm.system.errors import StudyError, first_fault

# Below this number of independent items, percentile intervals of a resampled mean are clearly too narrow: of scores of
# which half are 100 and the others even from 0 to 60, 95 % intervals held the true mean in 89 % of 1,500 samples of
# five items, in 92 % with ten, 93 % with twenty and 94 % with thirty.
FEWEST_GROUPS = 20


class _Part(BaseModel):
    """A mapping in `result.json`; unknown keys are kept, so that reading and writing a file loses nothing."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, allow_inf_nan=False)


P = TypeVar("P", bound=BaseModel)


class Difference(_Part):
    """The paired difference evolved minus another model, in points, with its 95 % bootstrap interval.

    `p_value`: two-sided, of the same bootstrap; `p_corrected`: by Holm's method, for all comparisons of the table.
    Earlier versions had neither.
    """

    mean: Number
    ci95: tuple[Number, Number]
    p_value: Number | None = None
    p_corrected: Number | None = None

    @property
    def certain(self) -> bool:
        """Whether it is significant at 5 %: corrected for the number of comparisons where that is known."""
        if self.p_corrected is not None:
            return self.p_corrected < 0.05
        low, high = self.ci95
        return low > 0 or high < 0


class Cell(_Part):
    """One model of the held-out table: its mean score (0 to 100), the 95 % interval, the share of exact answers.

    `content`: the share of answers that say the right thing, whatever their style and language, with its interval, both
    0 to 1; None where the task cannot tell, and in earlier versions. `content_versus_evolved` is in points.
    The fields after `content_versus_evolved` identify the model and differ between rows.
    """

    score: Number
    exact: Number  # 0 to 1
    ci95: tuple[Number, Number]
    items: Count | None = None
    versus_evolved: Difference | None = None
    content: Number | None = None
    content_ci95: tuple[Number, Number] | None = None
    content_versus_evolved: Difference | None = None
    model: str | None = None  # for a source: the name of its folder
    digest: str | None = None  # of the recipe that was tested
    trials: Count | None = None  # for a baseline search: its number of trials
    source: str | None = None
    weight: Number | None = None
    of: str | None = None  # what `weight` applies to, or what a guesser has learnt from
    source_and_weight: str | None = None
    chosen_on: str | None = None  # validation or search; None if there was nothing to choose, as for a source
    tries: Count | None = None  # number of candidates it was chosen from
    note: str | None = None  # what its score alone does not tell, such as that every answer is empty


class FailedRow(_Part):
    """A source or control of the held-out table that has no score; `error`: "failed: " or "left out: ", and the reason.

    `again`: whether it may not fail again, so that the study's command tries it once more.
    """

    error: str
    again: bool = False


class HeldOut(_Part):
    """The held-out table: unmerged sources, controls, and the evolved model."""

    sources: dict[str, Cell | FailedRow] = {}
    controls: dict[str, Cell | FailedRow] = {}
    evolved: Cell

    @property
    def scored_sources(self) -> dict[str, Cell]:
        """The sources that have a score."""
        return _scored(self.sources)

    @property
    def scored_controls(self) -> dict[str, Cell]:
        """The controls that have a score."""
        return _scored(self.controls)


def _scored(rows: dict[str, Cell | FailedRow]) -> dict[str, Cell]:
    return {name: row for name, row in rows.items() if isinstance(row, Cell)}


class Finalist(_Part):
    """A candidate that was scored again to choose the winner. Scores are 0 to 100."""

    trial: Count
    search_score: Number
    choice_score: Number


class Selection(_Part):
    """How the winner was chosen. `luck` (selection bias): its search score minus its score on the choice items."""

    trial: Count
    search_score: Number
    choice_score: Number
    luck: Number
    items: Count | None = None
    finalists: tuple[Finalist, ...] = ()
    # If all candidates of the search had the same score: their number. The winner then stands for all of them.
    tied: Count | None = None

    def fits(self, trials: int) -> bool:
        """Whether it names only trials of a log of that length."""
        return all(0 <= number < trials for number in (self.trial, *(one.trial for one in self.finalists)))


class JudgedData(_Part):
    """The recipe's data as TASK:SPLIT, the number of search items, and how many were left out as too similar to others.

    Too similar means: to a validation or test item. test_groups: the number of test items that are independent of
    each other; items about one picture count once. test_effective: how many independent items they are worth if the
    answers about one picture are right or wrong together.
    """

    search: str | None = None
    validation: str | None = None
    test: str | None = None
    preset: str | None = None
    search_items: Count | None = None
    left_out: Count | None = None
    test_task: str | None = None  # the task whose rules score the held-out table
    test_groups: Count | None = None
    test_effective: Number | None = None


class Revisions(_Part):
    """The commits of what came from the hub: models by key in the recipe (`sources.ja`), data sets by repository."""

    models: dict[str, str] = {}
    data: dict[str, str] = {}


class FrontPoint(_Part):
    """A point of the Pareto front: the trial, its recipe's path in the study's folder, its value per objective."""

    trial: Count
    recipe: str
    values: dict[str, Number]


class Front(_Part):
    """The Pareto front of a study with several objectives; `hypervolume` after each generation."""

    objectives: tuple[str, ...]
    points: tuple[FrontPoint, ...]
    hypervolume: tuple[Number, ...] = ()


class MachineRates(_Part):
    """Measured rates of the machine: bytes per second, and operations per second in `dtype`."""

    device: str
    copied: Number = Field(alias="copy")  # counts bytes read and bytes written; `copy` is a method of pydantic's models
    matrix: Number
    dtype: str
    upload: Number | None = None  # bytes per second from pinned host memory to the GPU


class Phase(_Part):
    """Median seconds of one phase of a candidate, the hardware limit (`floor`, seconds), and their ratio."""

    seconds: Number
    floor: Number | None = None
    ratio: Number | None = None


class Profile(_Part):
    """Seconds per phase over the timed trials, with the machine's rates."""

    trials: Count
    rates: MachineRates
    phases: dict[str, Phase]


class AtlasSummary(_Part):
    """The atlas without its cells, which are in `atlas.json`."""

    axes: tuple[str, ...]
    steps: Count
    trials: Count
    fresh_items: Count
    coverage: Number
    qd_score: Number
    best: Number


class AtlasCell(_Part):
    """The best merge of one skill profile. `fresh`: its score on items the search has not seen; None: it failed."""

    cell: tuple[Count, Count]
    trial: Count
    score: Number
    profile: dict[str, Number]
    recipe: str  # its path in the study's folder
    digest: str = ""
    fresh: Number | None = None


class Atlas(AtlasSummary):
    """The contents of a study's `atlas.json`. Each axis has `steps` cells."""

    axes: tuple[str, str]
    cells: tuple[AtlasCell, ...]

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for one in self.cells:
            if not all(0 <= place < self.steps for place in one.cell) or not set(self.axes) <= set(one.profile):
                raise ValueError(f"cell {list(one.cell)} does not fit the axes")
        return self


class Result(_Part):
    """The contents of a study's `result.json`."""

    digest: str = ""  # the winner's
    task: str = ""  # of the search
    data: JudgedData = JudgedData()
    trials: Count | None = None
    selection: Selection | None = None
    held_out: HeldOut
    seed: int | None = None
    revisions: Revisions = Revisions()
    versions: dict[str, str] = {}
    hardware: str | None = None
    seconds: Number | None = None
    front: Front | None = None
    profile: Profile | None = None
    atlas: AtlasSummary | None = None
    checkpoint: str | None = None  # the folder of the winner's checkpoint

    @property
    def caution(self) -> str | None:
        """A sentence where the test has fewer independent items than it seems, or too few; None elsewhere."""
        groups, items = self.data.test_groups, self.held_out.evolved.items
        if groups is None:
            return None
        if groups >= FEWEST_GROUPS:
            return self._shared
        of = "items" if groups == items else f"pictures, with {items} items in all,"
        return (
            f"The test has {groups} {of} only: resampling fewer than {FEWEST_GROUPS} gives intervals that are too"
            " narrow. Judge on more (--judged)."
        )

    @property
    def _shared(self) -> str | None:
        """A sentence on test items that share pictures, if they are worth clearly fewer than they are."""
        worth, items = self.data.test_effective, self.held_out.evolved.items
        if worth is None or items is None or worth > 0.9 * items:
            return None
        return f"The {items} test items share pictures: they are worth at least {worth:.0f} independent ones."

    def content(self) -> dict[str, Any]:
        """The result as a JSON object. Only keys that were set, so a file read and written again is unchanged."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def read_result(folder: Path) -> Result | None:
    """Read a study's `result.json`; None if it does not exist yet. Raises StudyError if the file is damaged."""
    return read_part(folder / study_log.RESULT, Result)


def read_atlas(folder: Path) -> Atlas | None:
    """Read a study's `atlas.json`; None if there is none. Raises StudyError if the file is damaged."""
    return read_part(folder / study_log.ATLAS, Atlas)


def read_part(path: Path, schema: type[P]) -> P | None:
    """Read one of a study's JSON files; None if it does not exist. Raises StudyError if it is damaged."""
    try:
        found = files.read_whole(path)
        return None if found is None else schema.model_validate(files.parse_json(found))
    except ValidationError as error:
        fault = first_fault(error)
    except StudyError as error:  # it is no file, or cannot be read
        raise StudyError(f"{error}; the study's `evovlm evolve` command makes it again") from None
    except ValueError as error:
        fault = str(error)
    raise StudyError(f"{path}: damaged ({fault}); the study's `evovlm evolve` command makes it again")


def write_result(folder: Path, result: Result) -> None:
    """Write `result.json` into a study's folder, atomically."""
    files.write_json(folder / study_log.RESULT, result.content())
