"""Result tables: for the terminal, as Markdown, and as one self-contained HTML page without network requests.

Knows the structure of results; reads no files except the report's style sheet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from evovlm.cli.console import narrow_table
from evovlm.report.head import page_head
from evovlm_benchmarks.runner.comparison import CHANCE
from evovlm_benchmarks.runner.results import Failure, Result

Cells = tuple[str, ...]
LEAST_WORDS = 16  # columns of a terminal that a column of words gets
GAP = 2  # between two columns
LONGEST = 120  # columns of a terminal that a text takes, over several lines
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Sheet:
    """A table: title, column names, rows, notes below it. The first `words` columns are text, the others numbers."""

    title: str
    columns: Cells
    rows: tuple[Cells, ...]
    notes: Cells = ()
    words: int = 1


def run_sheets(results: Sequence[Result], behind: Mapping[str, str], failures: Sequence[Failure] = ()) -> list[Sheet]:
    """One table per task: every model with score, interval, and scores under other rules; then what failed, and why.

    `behind`: each model's difference from the best, with interval and `n.s.`, by answer file.
    """
    sheets = []
    for name in dict.fromkeys(label(result) for result in results):
        own = sorted((result for result in results if label(result) == name), key=lambda result: -result.score)
        beside = [key for key in dict.fromkeys(key for result in own for key in result.beside) if _tells(key, own)]
        rows = tuple(
            (
                result.model + ("" if result.sees or not own_pictures(own) else " (blind)"),
                f"{result.score:.2f}",
                f"{result.ci95[0]:.1f} to {result.ci95[1]:.1f}",
                behind.get(result.answers, ""),
                f"{result.exact:.1%}",
                *(f"{result.beside.get(key, 0.0):.2f}" for key in beside),
            )
            for result in own
        )
        columns = ("model", "score", "95 %", "minus the best", "exact", *beside)
        lost = dict.fromkeys(one.model for one in failures if one.task in (None, own[0].task))
        rows += tuple((model, "failed", *[""] * (len(columns) - 2)) for model in lost)
        sheets.append(Sheet(name, columns, rows, _notes(own, behind)))
    if failures:
        rows = tuple((one.model, one.task or "all", f"failed: {one.reason}") for one in failures)
        sheets.append(Sheet("Failed", ("model", "task", "why"), rows, words=3))
    return sheets


def _tells(key: str, results: Sequence[Result]) -> bool:
    """Whether a column adds information: of the two number readings with the language rule, one is the score itself."""
    return not key.endswith("_ja") or any(result.beside.get(key) != result.score for result in results)


def own_pictures(results: Sequence[Result]) -> bool:
    """Whether a task is about images: its prompt contains `<image>`."""
    return any("<image>" in result.generation["template"] for result in results)


def label(result: Result) -> str:
    """Title of a result: task, split, item count, and the preset if the task has presets."""
    preset = f", preset {result.rules['preset']}" if "preset" in result.rules else ""
    return f"{result.task}:{result.split}, {result.items} items{preset}"


def _notes(results: Sequence[Result], behind: Mapping[str, str]) -> Cells:
    first = results[0]
    told = ", ".join(f"{key}: {value}" for key, value in first.rules.items() if key != "preset")
    asked = first.generation
    how = f"{asked['num_beams']} beams" if asked["num_beams"] > 1 else "greedy"
    how = f"sampled at {asked['temperature']} with seed {asked['seed']}" if asked["temperature"] else how
    notes = []
    if any(behind.get(result.answers, "").endswith(CHANCE) for result in results):
        notes.append(f"{CHANCE}: the 95 % interval of the paired difference includes zero.")
    notes.append(
        f"Rules: {told}. Answers: {how}, at most {asked['max_new_tokens']} tokens. Items drawn by seed {first.seed}."
    )
    notes += [made(results)]
    for result in results:
        seen = result.overlap or {}
        bred = f"{result.model} was searched on {seen.get('search')}"
        if seen.get("pairs"):
            notes.append(f"{bred}: {seen['pairs']} pairs of items are too similar, so its score is not fair.")
        elif "unknown" in seen:
            notes.append(f"{bred}, which cannot be checked for overlap here: {seen['unknown']}")
    return tuple(notes)


def made(results: Sequence[Result]) -> str:
    """A sentence with the versions and machines that produced the answers."""
    names = ("evovlm", "commit", "torch", "transformers")
    found = dict.fromkeys(
        ", ".join(f"{name} {result.versions.get(name, 'unknown')}" for name in names) + f"; {result.hardware}"
        for result in results
    )
    return f"Made with {' and with '.join(found)}."


def print_sheet(console: Console, sheet: Sheet, *, cut: bool = False) -> None:
    """Print a table to the terminal, as several if its columns do not fit; cell texts are never read as markup.

    cut: end long texts, such as answers, with an ellipsis.
    """
    for number, columns in enumerate(_fitting(sheet, console.width)):
        if sheet.title:
            console.print(Text(sheet.title + (" (continued)" if number else ""), style="italic"))
        table = narrow_table()
        for column in columns:
            table.add_column(
                sheet.columns[column],
                justify="left" if column < sheet.words else "right",
                no_wrap=column >= sheet.words,
                overflow="fold",
            )
        for row in sheet.rows:
            cells = [Text(row[column]) for column in columns]
            for cell in cells:
                cell.truncate(LONGEST if cut else cell.cell_len, overflow="ellipsis")
            table.add_row(*cells)
        console.print(table)
    for note in sheet.notes:
        # In a file a sentence stays a line, unless a width was asked for.
        console.print(note, markup=False, soft_wrap=not (console.is_terminal or "COLUMNS" in os.environ))


def _fitting(sheet: Sheet, width: int) -> list[list[int]]:
    """The columns of each part of a table: the words, which may fold, and as many numbers as fit beside them."""
    widths = [
        max(cell_len(text) for text in (sheet.columns[column], *(row[column] for row in sheet.rows)))
        for column in range(len(sheet.columns))
    ]
    words = list(range(sheet.words))
    least = sum(min(widths[column], LEAST_WORDS) + GAP for column in words)
    parts: list[list[int]] = [[]]
    for column in range(sheet.words, len(sheet.columns)):
        taken = least + sum(widths[other] + GAP for other in parts[-1])
        if parts[-1] and taken + widths[column] > width:
            parts.append([])
        parts[-1].append(column)
    return [[*words, *part] for part in parts]


def markdown(sheets: Sequence[Sheet], title: str) -> str:
    """All tables as Markdown."""
    parts = [f"# {title}"]
    for sheet in sheets:
        lines = [_line(sheet.columns), _line(["---" if n < sheet.words else "---:" for n in range(len(sheet.columns))])]
        lines += [_line(row) for row in sheet.rows]
        parts += [f"## {sheet.title}", "\n".join(lines), *sheet.notes]
    return "\n\n".join(parts) + "\n"


def html(sheets: Sequence[Sheet], title: str) -> str:
    """All tables as one self-contained page."""
    body = "".join(_section(sheet) for sheet in sheets)
    return (
        f"{page_head(title, POLICY)}<body>\n"
        f"<header><h1>{escape(title)}</h1></header>\n<main>{body}</main>\n</body>\n</html>\n"
    )


def _section(sheet: Sheet) -> str:
    head = "".join(_cell("th", name, n >= sheet.words) for n, name in enumerate(sheet.columns))
    rows = "".join(
        "<tr>" + "".join(_cell("td", cell, n >= sheet.words) for n, cell in enumerate(row)) + "</tr>"
        for row in sheet.rows
    )
    notes = "".join(f'<p class="told">{escape(note)}</p>' for note in sheet.notes)
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<section><h2>{escape(sheet.title)}</h2>{table}{notes}</section>"


def _cell(tag: str, text: str, number: bool) -> str:
    return f'<{tag} class="num">{escape(text)}</{tag}>' if number else f"<{tag}>{escape(text)}</{tag}>"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
