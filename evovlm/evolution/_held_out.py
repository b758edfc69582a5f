"""The held-out table: sources, controls and the evolved model on items that no search has seen.

Knows rows that can be evaluated, not their content. Each model's answers are stored as soon as they are complete, so
a killed run continues with the next model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.evaluators.evaluation import SILENT
from evovlm.evaluators.local import Evaluation
from evovlm.study import log as study_log
from evovlm.study.header import Tell, unheard
from evovlm.study.held_out_log import EVOLVED, HeldOutAnswer, Kind, read_held_out
from evovlm.study.result import Cell, Difference, FailedRow, HeldOut
from evovlm.system import files
from evovlm.system.errors import StudyError
from evovlm.system.faults import Passing, failure_of, row_failure
from evovlm.system.progress import Progress, Watch, part_of
from evovlm.system.statistics import bootstrap, holm, paired_difference, share_interval
from evovlm.tasks import Item
from evovlm.tasks.item_sets import ItemSet
from evovlm.tasks.protocol import JudgesContent

FULL = 100.0
# Draws of a bootstrap; for p-values of many comparisons, so many for each of them.
DRAWS, DRAWS_EACH = 1000, 80


class LeftOut(str):
    """Why a row of the table has no score, although nothing failed."""

    __slots__ = ()


class LeftOutNow(LeftOut, Passing):
    """The same, for a reason that may be gone when the same command runs again."""

    __slots__ = ()


@dataclass(frozen=True)
class Contestant:
    """A row of the table: `section` is sources, controls or evolved.

    `evaluate`: computes it, and reports how many of its questions are answered; instead of an evaluation it may return
    the text of a failure, as `row_failure` gives it, or a `LeftOut`.
    `detail`: identifies the recipe, so that its stored answers can be found. `tries`: number of candidates it was
    chosen from, None if it is no candidate. `chosen_on`: name of the item set, None if there was nothing to choose.
    """

    name: str
    section: Kind
    evaluate: Callable[[Progress], Evaluation | str]
    detail: Mapping[str, Any]
    chosen_on: str | None = None
    tries: int | None = None

    @property
    def title(self) -> str:
        """The row's name while it is evaluated."""
        titles = {"sources": f"source {self.name}", "controls": f"control {self.name.replace('_', ' ')}"}
        return titles.get(self.section, "winner")


def failed(name: str, failure: str) -> Contestant:
    """The row of a control that is not tested; `failure`: what `row_failure` returned, or a `LeftOut`."""
    return Contestant(name, "controls", lambda progress: failure, {})


def judge(
    folder: Path,
    rows: Sequence[Contestant],
    items: ItemSet,
    *,
    searched: str,
    seed: int,
    watch: Watch,
    tell: Tell = unheard,
) -> HeldOut:
    """Evaluate every contestant; compute mean, exact share and 95 % bootstrap interval.

    Answers go to the study's `heldout_answers.jsonl`; rows already there (same model, same items) are not evaluated
    again, and `tell` is called with a sentence on damaged ones. `searched`: the name of the search's task.
    `versus_evolved` is the paired difference evolved minus row with its interval, and `content` the share of answers
    that say the right thing, if the items' task can tell. P-values are corrected for the number of rows. A source or
    control that fails is a row that says so. Raises StudyError if the evolved model fails, what `failure_of` raises of
    it, and what `row_failure` raises of the others.
    """
    # Earlier versions used the search task's prompts and scoring for every set; the suffix keeps those rows apart.
    other = "" if items.task.name == searched else f" task={items.task.name}"
    known = _stored(folder, items, tell)
    done: list[Evaluation | str] = []
    keys = [(row.section, _key(row) + other) for row in rows]
    if missing := sum(key not in known for key in keys):
        watch.phase("held out", missing)
    for row, key in zip(rows, keys, strict=True):
        if key not in known:
            began = time.perf_counter()
            evaluation = _evaluated(row, watch)
            seconds = round(time.perf_counter() - began, 3)
            study_log.log_event(folder, study_log.HELD_OUT_ROW, row=row.title, questions=len(items), seconds=seconds)
            watch.step(row.title if not isinstance(evaluation, str) else f"{row.title}: {evaluation}")
            if isinstance(evaluation, str):
                done.append(evaluation)
                continue
            files.append_rows(folder / study_log.HELD_OUT_ANSWERS, _answer_rows(row, key[1], items, evaluation))
            known[key] = evaluation
        done.append(known[key])
    evolved = next(found for row, found in zip(rows, done, strict=True) if row.section == EVOLVED)
    if isinstance(evolved, str):
        raise StudyError(
            f"{folder}: the winner cannot be scored on the test items ({evolved}); choose other test items"
        )
    table = _Table(items, evolved, seed, comparisons=len(rows) - 1)
    sections: dict[str, dict[str, Cell | FailedRow]] = {"sources": {}, "controls": {}}
    for row, found in zip(rows, done, strict=True):
        if row.section == EVOLVED:
            best = table.cell(row, evolved)
        elif isinstance(found, str):
            sections[row.section][row.name] = _failed_row(found)
        else:
            sections[row.section][row.name] = table.cell(row, found)
    sources, controls = _corrected(sections["sources"], sections["controls"])
    return HeldOut(sources=sources, controls=controls, evolved=best)


def _evaluated(row: Contestant, watch: Watch) -> Evaluation | str:
    """A row's evaluation, or the text of its failure."""
    try:
        return row.evaluate(part_of(watch, row.title))
    except Exception as fault:
        return failure_of(fault) if row.section == EVOLVED else row_failure(fault)


def _failed_row(failure: str) -> FailedRow:
    """The row of a source or control that has no score; `failure`: what `row_failure` returned, or a `LeftOut`."""
    what = "left out" if isinstance(failure, LeftOut) else "failed"
    return FailedRow(error=f"{what}: {failure}", **({"again": True} if isinstance(failure, Passing) else {}))


class _Table:
    """Turns evaluations of the same items into rows that are compared with the evolved model's."""

    def __init__(self, items: ItemSet, evolved: Evaluation, seed: int, *, comparisons: int) -> None:
        self._items, self._evolved, self._seed = items, evolved, seed
        self._pictures = items.pictures
        self._right = _said(items, evolved.answers)
        # A bootstrap of N draws shows no p-value below 2 / (N + 1), which the correction multiplies by their number.
        self._draws = max(DRAWS, DRAWS_EACH * comparisons)

    def cell(self, row: Contestant, evaluation: Evaluation) -> Cell:
        """One row, its p-values not yet corrected."""
        interval = bootstrap(evaluation.scores, seed=self._seed, clusters=self._pictures)
        more = self._content(evaluation)
        if row.tries is not None:
            more |= {"chosen_on": row.chosen_on, "tries": row.tries}
        if not any(evaluation.answers):
            more["note"] = SILENT
        return Cell(
            score=evaluation.score,
            exact=evaluation.exact_share,
            ci95=(interval.low, interval.high),
            items=len(evaluation.scores),
            versus_evolved=self._difference(self._evolved.scores, evaluation.scores),
            **row.detail,
            **more,
        )

    def _content(self, evaluation: Evaluation) -> dict[str, Any]:
        """The fields of a row on what its answers say; none if the task cannot tell."""
        own, best = _said(self._items, evaluation.answers), self._right
        if own is None or best is None:
            return {}
        points, of_best = [FULL * flag for flag in own], [FULL * flag for flag in best]
        return {
            "content": sum(own) / len(own),
            "content_ci95": share_interval(own, clusters=self._pictures),
            "content_versus_evolved": self._difference(of_best, points),
        }

    def _difference(self, evolved: Sequence[float], other: Sequence[float]) -> Difference:
        found = paired_difference(evolved, other, seed=self._seed, clusters=self._pictures)
        p_value = found.p_value
        if self._draws > DRAWS:
            p_value = paired_difference(
                evolved, other, seed=self._seed, clusters=self._pictures, resamples=self._draws
            ).p_value
        return Difference(mean=found.mean, ci95=(found.low, found.high), p_value=p_value)


def _said(items: ItemSet, answers: Sequence[str]) -> list[bool] | None:
    """Which answers say the right thing; None if the task cannot tell of every item."""
    if not isinstance(items.task, JudgesContent):
        return None
    found = [items.task.content(item, answer) for item, answer in zip(items, answers, strict=True)]
    flags = [flag for flag in found if flag is not None]
    return flags if len(flags) == len(found) else None


def _corrected(*sections: Mapping[str, Cell | FailedRow]) -> list[dict[str, Cell | FailedRow]]:
    """The rows with p-values corrected for the number of comparisons, those of scores and of content apart."""
    made = [dict(rows) for rows in sections]
    for name in ("versus_evolved", "content_versus_evolved"):
        places = [
            (rows, key, row, found)
            for rows in made
            for key, row in rows.items()
            if isinstance(row, Cell) and isinstance(found := getattr(row, name), Difference)
        ]
        corrected = holm([found.p_value or 0.0 for _, _, _, found in places])
        for (rows, key, row, found), value in zip(places, corrected, strict=True):
            rows[key] = row.model_copy(update={name: found.model_copy(update={"p_corrected": value})})
    return made


def _key(row: Contestant) -> str:
    """A row's key: its name and details, so that a new winner does not reuse an old winner's answers."""
    return " ".join([row.name, *(f"{key}={value}" for key, value in sorted(row.detail.items()))])


def _answer_rows(row: Contestant, key: str, items: Sequence[Item], evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "kind": row.section,
            "model": row.name,
            "key": key,
            "id": item.id,
            "content": item.content,
            "question": item.question,
            "references": list(item.references),
            "answer": answer,
            "score": score,
            "exact": exact,
        }
        for item, answer, score, exact in zip(
            items, evaluation.answers, evaluation.scores, evaluation.exact, strict=True
        )
    ]


def _stored(folder: Path, items: Sequence[Item], tell: Tell) -> dict[tuple[Kind, str], Evaluation]:
    """Stored evaluations that cover all of these items, by the row's kind and key."""
    by_key: dict[tuple[Kind, str], dict[str, HeldOutAnswer]] = {}
    content = {item.id: item.content for item in items}
    for row in read_held_out(folder, tell):
        # Earlier versions did not write the content.
        if row.content in (None, content.get(row.id)):
            by_key.setdefault((row.kind, row.key), {})[row.id] = row
    whole = {}
    for key, rows in by_key.items():
        if all(item.id in rows for item in items):
            mine = [rows[item.id] for item in items]
            whole[key] = Evaluation(
                scores=tuple(row.score for row in mine),
                exact=tuple(row.exact for row in mine),
                answers=tuple(row.answer for row in mine),
            )
    return whole
