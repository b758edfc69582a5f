"""Terminal output: tables and sentences. Knows rich and the shapes of results.

Results go to standard output, progress and warnings to standard error, so that a pipe gets results only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from evovlm.system.plain_text import cut_words, visible

if TYPE_CHECKING:
    from evovlm.cli._asking import ModelRow
    from evovlm.evolution.forecast import Forecast
    from evovlm.methods import Method
    from evovlm.study.held_out_log import HeldOutAnswer, Kind
    from evovlm.study.result import Cell, FailedRow, Profile, Result
    from evovlm.system.machine import Finding


# Names of folders and models, answers and errors may look like rich's markup or emoji codes: strings are printed as
# they are, and what shall be bold or coloured is a `Text`.
class _VisibleConsole(Console):
    """A console that prints control characters of names, answers and errors as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is to be printed."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class _ErrorConsole(_VisibleConsole):
    """A console that can be told that it is a terminal and stays one.

    Bars are redrawn by a thread of rich's. If that asks for the kind of output while standard error is redirected
    for a moment, as around libraries written in Rust, the bars would be drawn once more below themselves.
    """

    stays_terminal = False

    @property
    def is_terminal(self) -> bool:
        """Whether standard error is a terminal."""
        return self.stays_terminal or super().is_terminal


OUT = _VisibleConsole(highlight=False, markup=False, emoji=False)
ERR = _ErrorConsole(stderr=True, highlight=False, markup=False, emoji=False)


# Widest name of a model in a table's first column; longer ones are cut or folded.
NAME_WIDTH = 24


def narrow_table(title: str | Text | None = None) -> Table:
    """A table that wastes no space on lines, for terminals of 80 columns."""
    return Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def note(text: str) -> None:
    """Print a sentence that is no error, on standard error."""
    ERR.print(f"note: {text}", markup=False, soft_wrap=True)


def held_out_table(result: Result) -> Table:
    """The held-out table of a study: sources, evolved, controls."""
    # Imports the report's libraries, which other commands do not need.
    from evovlm.report.words import control_name, failed_rows, footnotes

    held = result.held_out
    items = held.evolved.items
    title = f"Held-out {result.data.test}: {items} items, seed {result.seed}, 95 % intervals"
    table = narrow_table(title)
    table.add_column("model", overflow="fold")
    judged = held.evolved.content is not None
    for name in ("score", "95 %", *(["content"] if judged else []), "exact", "evolved minus this", "best\nof"):
        table.add_column(name, justify="right", no_wrap=True)
    below = [result.caution] if result.caution else []
    if held.evolved.chosen_on is not None:
        below.insert(0, f"best of: number of candidates a row was picked from, on {held.evolved.chosen_on} items")
    below += footnotes(held)
    below += [f"{name}: {row.error}" for name, row in failed_rows(held)]
    table.caption = Text("\n".join(below))
    for name, cell in held.sources.items():
        _row(table, f"source {name}", cell, judged)
    _row(table, Text("evolved", style="bold"), held.evolved, judged, last=True)
    for name, cell in held.controls.items():
        _row(table, control_name(name), cell, judged)
    return table


def answers_tables(
    rows: Sequence[HeldOutAnswer], models: Sequence[tuple[Kind, str]], items: int = 4
) -> Iterator[Table]:
    """The answers to the first `items` questions, a table each; `models`: kind and name of the rows to show.

    Every answer is one line, which is cut with an ellipsis where the terminal ends.
    """
    from evovlm.report.words import row_name

    names = ["reference", *(row_name(*model) for model in models)]
    wide = min(NAME_WIDTH, max(map(cell_len, names)))
    by_item: dict[str, dict[tuple[Kind, str], HeldOutAnswer]] = {}
    for row in rows:
        by_item.setdefault(row.id, {})[row.row] = row
    for found in list(by_item.values())[:items]:
        first = next(iter(found.values()))
        table = Table(show_header=False, box=None, pad_edge=False, expand=True)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis", width=wide)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_row("question", Text(_one_line(first.question), style="bold"))
        table.add_row("reference", _one_line("".join(first.references[:1])))
        for model in models:
            if model in found:
                table.add_row(row_name(*model), _one_line(found[model].answer) or Text("(empty)", style="dim"))
        yield table


def _one_line(text: str) -> str:
    return " ".join(text.split())


def findings_table(findings: Sequence[Any]) -> Table:
    """The findings of a recipe check."""
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    table = Table(show_header=True, box=None)
    for name in ("", "key", "finding"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.level, style=colours[finding.level]), cut_words(finding.key), cut_words(finding.text)
        )
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


def forecast_table(found: Forecast) -> Table:
    """The phases of a search, with what they do and how long each takes."""
    table = narrow_table()
    table.add_column("phase", overflow="fold")
    table.add_column("work", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for name, work, seconds in found.phases:
        table.add_row(name, work, found.in_words(seconds))
    return table


def recipes_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """The shipped recipes, by name."""
    table = Table(show_header=True, box=None)
    for name in ("name", "kind", "method", "about"):
        table.add_column(name, overflow="fold", no_wrap=name != "about")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["method"], row["about"])
    return table


def methods_table(rows: Sequence[Method]) -> Table:
    """The merge methods, with what they need and the names of their options."""
    from evovlm.methods.description import needs_in_words, options_in_words

    table = narrow_table()
    table.add_column("method", no_wrap=True)
    for name in ("needs", "options", "what it does"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.name, needs_in_words(row), ", ".join(one.name for one in options_in_words(row)), row.doc)
    table.caption = "`evovlm methods NAME` has the defaults of the options, the cost and the source"
    table.caption_justify = "left"
    return table


def method_table(row: Method) -> Table:
    """One merge method, with all that is known of it."""
    from evovlm.methods.description import needs_in_words, options_in_words, shown_default

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    unused = [name for name, used in (("weights", row.weighted), ("densities", row.drop is not None)) if not used]
    table.add_row("method", Text(row.name, style="bold"))
    facts = [("does", row.doc), ("needs", needs_in_words(row)), ("not used", ", ".join(unused))]
    facts += [
        (f"options.{one.name}", f"{one.doc}: {one.takes} (default {shown_default(one)})")
        for one in options_in_words(row)
    ]
    for name, text in (*facts, ("cost", row.cost), ("source", row.source)):
        if text:
            table.add_row(name, text)
    return table


def suggestions_table(advice: Any) -> Table:
    """The ranked sources, most useful first, each with a reason."""
    title = f"Base alone {advice.base_score:.1f}; {advice.answers} answers used; 95 % intervals"
    table = narrow_table(title)
    table.add_column("source", overflow="fold")
    for name in ("alone", "with those above", "adds", "norm"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in advice.ranking:
        adds = f"{one.adds:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
        table.add_row(one.source, f"{one.alone:.1f}", f"{one.together:.1f}", adds, f"{one.norm:.2f}")
    table.caption = "\n".join(f"{one.source}: {one.reason}" for one in advice.ranking)
    table.caption_justify = "left"
    return table


def selection_bias_text(luck: float, *, few: bool = False) -> str:
    """Explain in words a drop (positive) or rise of the winner's score from search to fresh items, in points."""
    if round(abs(luck), 2) == 0:
        return "no difference"
    if luck > 0:
        return f"{luck:.2f} points lower (selection bias, or harder items)"
    if few:
        return f"{-luck:.2f} points higher, on too few items to say anything about selection bias"
    return f"{-luck:.2f} points higher: no sign of selection bias"


def _row(table: Table, name: str | Text, cell: Cell | FailedRow, judged: bool, *, last: bool = False) -> None:
    from evovlm.study.result import FailedRow

    if isinstance(cell, FailedRow):
        table.add_row(name, Text(cell.error.partition(":")[0], style="red"))
        return
    low, high = cell.ci95
    difference, versus = "", cell.versus_evolved
    if versus is not None and not last:
        difference = f"{versus.mean:+.1f} [{versus.ci95[0]:+.1f}, {versus.ci95[1]:+.1f}]"
        difference += "" if versus.certain else " n.s."
    tries = "" if cell.tries is None else str(cell.tries)
    name += f" ({cell.note})" if cell.note else ""
    shares = [cell.content, cell.exact] if judged else [cell.exact]
    told = ["" if share is None else f"{share:.1%}" for share in shares]
    table.add_row(name, f"{cell.score:.2f}", f"{low:.1f}–{high:.1f}", *told, difference, tries)


def profile_table(profile: Profile) -> Table:
    """Median seconds of each phase of a candidate, the hardware limit (floor), and their ratio."""
    rates = profile.rates
    title = (
        f"Seconds per candidate, median of {profile.trials} trials; floor: hardware limit"
        f" (memory copy {rates.copied / 1e9:,.0f} GB/s, matmul {rates.matrix / 1e12:,.2f} TFLOP/s {rates.dtype})"
    )
    table = narrow_table(title)
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
