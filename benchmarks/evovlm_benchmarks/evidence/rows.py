"""Rows of evidence: one per run and model of its held-out table, with which of its answers say the right thing.

Knows studies and tasks; writes no pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evovlm.study.held_out_log import EVOLVED, Kind, read_held_out
from evovlm.study.result import Cell, Difference, Result, read_result
from evovlm.system import files
from evovlm.system.errors import StudyError, UserError, first_fault
from evovlm.tasks import Item, load_task
from evovlm.tasks.protocol import JudgesContent
from evovlm.zoo.splits import kind_of
from evovlm_benchmarks.evidence.runs import Run


class Row(BaseModel):
    """One model of one run. Scores are 0 to 100, shares 0 to 1.

    `said`: which answers say the right thing, one bit per test item in the order of the study, as hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str
    training: str
    search: int
    kind: Kind
    name: str
    score: float
    ci95: tuple[float, float]
    exact: float
    content: float
    content_ci95: tuple[float, float]
    content_versus_evolved: Difference
    versus_evolved: Difference
    items: int = Field(gt=0)
    said: str
    tries: int | None
    chosen_on: str | None
    trials: int
    search_items: int
    test: str
    zoo: str
    digest: str
    commit: str
    versions: dict[str, str]
    hardware: str

    @property
    def flags(self) -> list[bool]:
        """Which answers say the right thing, item by item."""
        return [sign == "1" for sign in f"{int(self.said, 16):0{self.items}b}"]

    @property
    def run(self) -> tuple[str, int]:
        """The run: training seed and search seed."""
        return self.training, self.search


def rows_of(run: Run, recipe: str, zoo: str) -> list[Row]:
    """The rows of a finished run. Raises StudyError if its table or its answers are incomplete."""
    result = read_result(run.study)
    if result is None:
        raise StudyError(f"{run.study}: has no result; run the same command again")
    if result.held_out.evolved.content is None:
        raise StudyError(
            f"{run.study}: has no `content`; its test task cannot tell what answers say, as the zoo's tasks can, or an"
            " earlier version made it: remove it then"
        )
    said = _said(run.study, result)
    held_out = result.held_out
    cells: list[tuple[Kind, str, Cell]] = [
        *(("sources", name, cell) for name, cell in held_out.scored_sources.items()),
        (EVOLVED, EVOLVED, held_out.evolved),
        *(("controls", name, cell) for name, cell in held_out.scored_controls.items()),
    ]
    return [
        _row(run, recipe, zoo, result, kind, name, cell, _flags(run, said.get((kind, name), ()), name, cell))
        for kind, name, cell in cells
    ]


def _flags(run: Run, flags: Sequence[bool], name: str, cell: Cell) -> Sequence[bool]:
    """A row's bits. Raises StudyError if they are not those that the table was made from."""
    if not flags or len(flags) != cell.items or abs(sum(flags) / len(flags) - (cell.content or 0.0)) > 1e-9:
        raise StudyError(
            f"{run.study}: the stored answers of {name} are not those of its table; remove the folder, and run again"
        )
    return flags


def _row(
    run: Run, recipe: str, zoo: str, result: Result, kind: Kind, name: str, cell: Cell, flags: Sequence[bool]
) -> Row:
    shared: dict[str, Any] = cell.model_dump(
        include={"score", "ci95", "exact", "content", "content_ci95", "content_versus_evolved", "versus_evolved"}
    )
    return Row(
        recipe=recipe,
        training=run.training,
        search=run.search,
        kind=kind,
        name=name,
        items=len(flags),
        said=f"{int(''.join('01'[flag] for flag in flags), 2):x}",
        tries=cell.tries,
        chosen_on=cell.chosen_on,
        trials=result.trials or 0,
        search_items=result.data.search_items or 0,
        test=result.data.test or "",
        zoo=zoo,
        digest=result.digest,
        commit=result.versions.get("commit", "unknown"),
        versions=result.versions,
        hardware=result.hardware or "unknown",
        **shared,
    )


def _said(study: Path, result: Result) -> dict[tuple[Kind, str], list[bool]]:
    """Which answers of each row say the right thing, in the order of the test items."""
    task = load_task(result.data.test_task or result.task)
    assert isinstance(task, JudgesContent)
    answers: dict[tuple[Kind, str], dict[str, bool]] = {}
    for one in read_held_out(study, _refuse):
        item = Item(one.id, one.question, one.references, None, kind_of(one.id))
        answers.setdefault(one.row, {})[one.id] = bool(task.content(item, one.answer))
    order = list(answers.get((EVOLVED, EVOLVED), ()))
    return {row: [flags[name] for name in order] for row, flags in answers.items() if set(order) <= set(flags)}


def _refuse(told: str) -> None:
    raise StudyError(f"{told}; run the same command again")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it does not exist. Raises UserError, naming the line, for one that is no row."""
    found, step = [], "choose another file, or remove this one"
    try:
        for number, row in files.numbered_rows(path):
            try:
                found.append(Row.model_validate(row))
            except ValidationError as error:
                raise UserError(f"{path}:{number}: no row of evidence ({first_fault(error)}); {step}") from None
    except StudyError as error:
        raise UserError(f"{str(error).partition(';')[0]}; {step}") from None
    return found


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Put the rows of a run into a file, in place of its earlier ones; rows of other runs are kept."""
    runs = {(row.recipe, *row.run) for row in rows}
    write_rows(path, [*(row for row in read_rows(path) if (row.recipe, *row.run) not in runs), *rows])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, ordered by recipe and run; models of a run keep their order."""
    ordered = sorted(rows, key=lambda row: (row.recipe, row.training, row.search))
    files.write_text(path, "".join(row.model_dump_json() + "\n" for row in ordered))
