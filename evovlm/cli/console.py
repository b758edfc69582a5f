"""Terminal output: progress bars, tables, JSON lines. Knows rich and the shapes of results.

Results go to standard output, progress and warnings to standard error, so that a pipe gets results only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from evovlm.cli._asking import ModelRow
    from evovlm.study.held_out_log import HeldOutAnswer, Kind
    from evovlm.study.result import Cell, FailedRow, Profile, Result
    from evovlm.system.machine import Finding

# Names of folders and models, answers and errors may look like rich's markup or emoji codes: strings are printed as
# they are, and what shall be bold or coloured is a `Text`.
OUT = Console(highlight=False, markup=False, emoji=False)
ERR = Console(stderr=True, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Print a sentence that is no error, on standard error."""
    ERR.print(f"note: {text}", markup=False, soft_wrap=True)


def bars() -> Progress:
    """A progress bar with elapsed and remaining time, on standard error."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=ERR,
        transient=False,
    )


class BarWatch:
    """Shows a search as progress bars: best and mean score so far, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None
        self._scores: list[float] = []
        self._failed = 0

    def phase(self, name: str, total: int) -> None:
        """Start a new bar."""
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=done)
        self._scores, self._failed = [], 0
        self._task = self._progress.add_task(name, total=total, figures="")

    def step(self, text: str, **figures: float | None) -> None:
        """Advance the bar by one step; show its score if it has one."""
        assert self._task is not None
        score = figures.get("score")
        shown = text
        if "score" in figures:
            if score is None:
                self._failed += 1
            else:
                self._scores.append(score)
            if self._scores:
                mean = math.fsum(self._scores) / len(self._scores)
                shown = f"best {max(self._scores):.2f}  mean {mean:.2f}"
            if self._failed:
                shown += f"  failed {self._failed}"
        task = self._progress.tasks[self._task]
        total = max(task.total or 0, task.completed + 1)
        self._progress.update(self._task, advance=1, total=total, figures=shown)

    def note(self, text: str) -> None:
        """Print a sentence above the bars."""
        self._progress.console.print(f"note: {text}", markup=False)


class LineWatch:
    """Shows a search as an occasional line of text, where the output is not a terminal.

    `pause`: the least time between two lines, in seconds.
    """

    def __init__(self, pause: float = 15.0) -> None:
        self._pause = pause
        self._name, self._total, self._done, self._best = "", 0, 0, -math.inf
        self._began = self._printed = 0.0

    def phase(self, name: str, total: int) -> None:
        """Print one line per phase."""
        self._name, self._total, self._done, self._best = name, total, 0, -math.inf
        self._began = time.monotonic()
        self._tell(f"{total} to do")

    def step(self, text: str, **figures: float | None) -> None:
        """Print progress, best score so far and time left, unless the last line is only a few seconds old."""
        self._done += 1
        self._best = max(self._best, -math.inf if (score := figures.get("score")) is None else score)
        if self._done != self._total and time.monotonic() < self._printed + self._pause:
            return
        best = f", best {self._best:.2f}" if self._best > -math.inf else ""
        if self._done > self._total:  # the total was only an estimate
            self._tell(f"{self._done} done{best}")
            return
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        self._tell(f"{self._done}/{self._total}{best}, about {left:.0f} s left")

    def note(self, text: str) -> None:
        """Print a sentence."""
        note(text)

    def _tell(self, text: str) -> None:
        self._printed = time.monotonic()
        ERR.print(f"{self._name}: {text}")


class JsonWatch:
    """Shows a search as JSON lines on standard output, for machines."""

    def phase(self, name: str, total: int) -> None:
        """Print one line per phase."""
        print(json.dumps({"phase": name, "total": total}), flush=True)

    def step(self, text: str, **figures: float | None) -> None:
        """Print one line per step."""
        print(json.dumps({"step": text, **figures}, ensure_ascii=False), flush=True)

    def note(self, text: str) -> None:
        """Print one line."""
        print(json.dumps({"note": text}, ensure_ascii=False), flush=True)


def held_out_table(result: Result) -> Table:
    """The held-out table of a study: sources, evolved, controls."""
    from evovlm.report.words import control_name  # imports the report's libraries, which other commands do not need

    held = result.held_out
    items = held.evolved.items
    table = Table(title=f"Held-out {result.data.test}: {items} items, seed {result.seed}, 95 % intervals")
    for name, justify in (("model", "left"), ("score", "right"), ("95 %", "right"), ("exact", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("evolved minus this", justify="right")
    table.add_column("best of", justify="right")
    if held.evolved.chosen_on is not None:
        table.caption = f"best of: number of candidates a row was picked from, on {held.evolved.chosen_on} items"
    for name, cell in held.sources.items():
        _row(table, f"source {name}", cell)
    _row(table, Text("evolved", style="bold"), held.evolved, last=True)
    for name, cell in held.controls.items():
        _row(table, control_name(name), cell)
    return table


def answers_table(rows: Sequence[HeldOutAnswer], models: Sequence[tuple[Kind, str]], items: int = 4) -> Table:
    """The answers to the first `items` questions, side by side; `models`: kind and name of each column's row."""
    from evovlm.report.words import row_name

    table = Table(title="Answers side by side", show_lines=True)
    for name in ("question", "reference", *(row_name(*model) for model in models)):
        table.add_column(name, overflow="fold")
    by_item: dict[str, dict[tuple[Kind, str], HeldOutAnswer]] = {}
    for row in rows:
        by_item.setdefault(row.id, {})[row.row] = row
    for found in list(by_item.values())[:items]:
        first = next(iter(found.values()))
        cells = [found[model].answer if model in found else "" for model in models]
        table.add_row(*map(escape, (first.question, *first.references[:1], *cells)))
    return table


def findings_table(findings: Sequence[Any]) -> Table:
    """The findings of a recipe check."""
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    table = Table(show_header=True, box=None)
    for name in ("", "key", "finding"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, style=colours[finding.level]), finding.key, finding.text)
    return table


def models_table(rows: Sequence[ModelRow]) -> Table:
    """For each model of a recipe: whether it can be merged, and whether and how it can be asked."""
    table = Table(show_header=True, box=None)
    for name in ("model", "merged", "asked"):
        table.add_column(name, overflow="fold")
    for row in rows:
        merged = Text("yes", style="green") if row.merged else Text("no", style="red")
        style = {"no": "red", "unknown": "yellow"}.get(row.asked, "")
        words = {"no": f"no: {row.how}", "not tried": "not tried"}.get(row.asked, row.how)
        table.add_row(row.key, merged, Text(words, style=style))
    return table


def doctor_table(findings: Sequence[Finding]) -> Table:
    """The findings of a check-up: what is there, and below it what will not work and the next step."""
    colours = {"ok": "green", "note": "dim", "warning": "yellow", "error": "red"}
    table = Table(show_header=False, box=None)
    for name in ("level", "part", "finding"):
        table.add_column(name, overflow="fold", no_wrap=name != "finding")
    for one in findings:
        told = Text(one.found if not one.advice else f"{one.found}: {one.advice}")
        table.add_row(Text(one.level, style=colours[one.level]), Text(one.name), told)
    return table


def recipes_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """The shipped recipes, by name."""
    table = Table(show_header=True, box=None)
    for name in ("name", "kind", "method", "about"):
        table.add_column(name, overflow="fold", no_wrap=name != "about")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["method"], row["about"])
    return table


def suggestions_table(advice: Any) -> Table:
    """The ranked sources, most useful first, each with a reason."""
    table = Table(title=f"Base alone {advice.base_score:.1f}; {advice.answers} answers used; 95 % intervals")
    for name in ("source", "alone", "with those above", "adds", "norm", "why"):
        table.add_column(name, justify="left" if name in ("source", "why") else "right")
    for one in advice.ranking:
        adds = f"{one.adds:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
        table.add_row(one.source, f"{one.alone:.1f}", f"{one.together:.1f}", adds, f"{one.norm:.2f}", one.reason)
    return table


def selection_bias_text(luck: float) -> str:
    """Explain in words a drop (positive) or rise of the winner's score from search to fresh items, in points."""
    if round(abs(luck), 2) == 0:
        return "no difference"
    if luck > 0:
        return f"{luck:.2f} points lower (selection bias, or harder items)"
    return f"{-luck:.2f} points higher: no sign of selection bias"


def size(nbytes: float) -> str:
    """A number of bytes in a readable unit (B, KB, MB or GB; 1 KB is 1000 B)."""
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


def _row(table: Table, name: str | Text, cell: Cell | FailedRow, *, last: bool = False) -> None:
    from evovlm.study.result import FailedRow

    if isinstance(cell, FailedRow):
        table.add_row(Text.assemble(name, "\n", (cell.error, "red")))
        return
    low, high = cell.ci95
    difference, versus = "", cell.versus_evolved
    if versus is not None and not last:
        difference = f"{versus.mean:+.1f} [{versus.ci95[0]:+.1f}, {versus.ci95[1]:+.1f}]"
        difference += "" if versus.certain else " n.s."
    tries = "" if cell.tries is None else str(cell.tries)
    name += f" ({cell.note})" if cell.note else ""
    table.add_row(name, f"{cell.score:.2f}", f"{low:.1f} to {high:.1f}", f"{cell.exact:.1%}", difference, tries)


def profile_table(profile: Profile) -> Table:
    """Median seconds of each phase of a candidate, the hardware limit (floor), and their ratio."""
    rates = profile.rates
    title = (
        f"Seconds per candidate, median of {profile.trials} trials; floor: hardware limit"
        f" (memory copy {rates.copied / 1e9:,.0f} GB/s, matmul {rates.matrix / 1e12:,.2f} TFLOP/s {rates.dtype})"
    )
    table = Table(title=title)
    for column in ("phase", "seconds", "floor", "times the floor"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, row in profile.phases.items():
        table.add_row(
            phase,
            _short(row.seconds),
            "" if row.floor is None else _short(row.floor),
            "" if row.ratio is None else f"{row.ratio:.2f}",
        )
    return table


def _short(seconds: float) -> str:
    """Seconds with four decimals; below a millisecond, with two significant digits."""
    return f"{seconds:.4f}" if seconds >= 0.001 else f"{seconds:.1e}"
