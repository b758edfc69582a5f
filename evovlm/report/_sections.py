"""The sections of the report's page, as HTML.

Knows the study's data and HTML; draws no plots and writes no files. All text from files is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from evovlm.recipe.layer_groups import group_in_words
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import recipe_text
from evovlm.report.data import UNKNOWN, StudyData
from evovlm.report.figures import Figure
from evovlm.report.words import control_name, does_not_show, footnotes, shows, tied_words
from evovlm.study.log import best_trial
from evovlm.study.result import Cell, Difference, FailedRow, Result

FAILURES_SHOWN = 20


def headline(study: StudyData) -> str:
    """The facts of the study, and the held-out table."""
    facts = {
        "task": _item_facts(study),
        "method": f"{study.recipe.method}, {len(study.genes)} genes, {study.search['algorithm']}",
        "trials": f"{len(study.trials)} ({len(study.failed)} failed)",
        "seed": str(study.search["seed"]),
        "hardware": str((study.result and study.result.hardware) or study.header.get("hardware", "unknown")),
        "versions": _versions(study),
    }
    parts = [_facts(facts), *(f'<p class="note">{escape(note)}.</p>' for note in study.notes)]
    if study.tied:
        parts.append(f'<p class="note">{escape(tied_words(study))}</p>')
    if study.result is None:
        best = best_trial(study.trials)
        score = f"{best.score:.2f} (trial {best.trial}, on the search items)" if best else "none yet"
        parts.append(f'<p class="note">No held-out result yet. Best score so far: {score}.</p>')
    else:
        parts.append(held_out_table(study.result))
    return section("Result", "".join(parts))


def held_out_table(result: Result) -> str:
    """Sources, controls and the evolved model with score, interval, exact share and difference."""
    held_out = result.held_out
    rows: list[tuple[str, Cell | FailedRow, str]] = [
        *((f"source {name}", cell, "") for name, cell in held_out.sources.items()),
        ("evolved", held_out.evolved, "evolved"),
        *((control_name(name), cell, "") for name, cell in held_out.controls.items()),
    ]
    judged = held_out.evolved.content is not None
    top = max(cell.ci95[1] for _, cell, _ in rows if isinstance(cell, Cell)) or 1.0
    lines = [
        "<thead><tr><th scope=col>model</th><th scope=col class=num>score</th><th scope=col>95 % interval</th>"
        f"{'<th scope=col class=num>content</th>' if judged else ''}<th scope=col class=num>exact</th>"
        "<th scope=col class=num>evolved minus this</th>"
        f"{'<th scope=col class=num>the same in content</th>' if judged else ''}"
        "<th scope=col class=num>best of</th></tr></thead><tbody>",
    ]
    for name, cell, style in rows:
        if isinstance(cell, FailedRow):
            lines.append(
                f"<tr><th scope=row>{escape(name)}</th><td colspan={5 + 2 * judged}>{escape(cell.error)}</td></tr>"
            )
            continue
        low, high = cell.ci95
        left, width = max(0.0, 100 * low / top), max(0.5, 100 * (high - max(low, 0)) / top)
        bar = f'<span class="bar" aria-hidden="true"><i style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'
        lines.append(
            f'<tr class="{style}"><th scope=row>{escape(name)}{_noted(cell)}</th><td class=num>{cell.score:.2f}</td>'
            f"<td>{low:.2f} to {high:.2f}{bar}</td>{_content(cell) if judged else ''}"
            f"<td class=num>{cell.exact:.1%}</td>"
            f"<td class=num>{_versus(cell.versus_evolved) if style != 'evolved' else ''}</td>"
            f"{_versus_in_content(cell, style) if judged else ''}"
            f"<td class=num>{cell.tries or ''}</td></tr>"
        )
    told = (
        f"Held-out items: {result.data.test or ''}, {held_out.evolved.items or ''} items."
        " Intervals: 95 %, bootstrap over items."
    )
    if held_out.evolved.chosen_on is not None:
        told += f" Best of: number of candidates a row was picked from, on {held_out.evolved.chosen_on} items."
    told += "".join(f" {note[0].upper()}{note[1:]}." for note in footnotes(held_out))
    return f'<p class="told">{escape(told)}</p><div class="scroll"><table>{"".join(lines)}</tbody></table></div>'


def plain_words(study: StudyData) -> str:
    """The section on which conclusions the study supports and which it does not."""
    return section(
        "What this shows, and what it does not",
        f"<h3>It shows</h3>{_list(shows(study))}<h3>It does not show</h3>{_list(does_not_show(study))}",
    )


def plot(figure: Figure) -> str:
    """The placeholder of one plot; the page's script draws it."""
    name = escape(figure.name)
    return (
        f'<figure><figcaption>{escape(figure.title)}</figcaption><div class="plot" id="plot-{name}" role="img"'
        f' aria-label="{escape(figure.alt)}" style="min-height:{figure.layout["height"]}px"></div></figure>'
    )


def searched(study: StudyData) -> str:
    """The section on the search: recipe, digest, winner, items."""
    search = study.search
    spans = {
        f"range of a {name}": f"{search[name]['low']} to {search[name]['high']}"
        for name in ("weight", "density")
        if search.get(name)
    }
    spans |= {f"range of options.{name}": f"{one['low']} to {one['high']}" for name, one in search["options"].items()}
    facts = {
        "search items": f"{len(study.item_ids) or UNKNOWN} of {study.task}",
        **spans,
        "start, sigma": f"{search['start']}, {search['sigma']:.3f} of the range",
        "recipe before the search": study.recipe.digest(),
    }
    revisions = study.header.get("revisions") or {}  # earlier versions did not record them
    facts |= {f"commit of {key}": commit for part in revisions.values() for key, commit in part.items()}
    parts = [_facts(facts)]
    if study.winner is not None:
        facts = {"digest of the winner": study.winner.digest()}
        parts.append(_facts(facts) + _code("The winner's recipe (best.yaml)", study.winner))
    parts.append(_code("The recipe that was searched", study.recipe))
    names = ", ".join(f"{gene.source}.{gene.parameter}.{group_in_words(gene.group)}" for gene in study.genes)
    parts.append(f"<details><summary>Genes</summary><p>{escape(names)}</p></details>")
    return section("What was searched", "".join(parts))


def log(study: StudyData) -> str:
    """The section on failed trials and the study's events."""
    parts = []
    if study.failed:
        rows = [(str(trial.trial), str(trial.generation), str(trial.error)) for trial in study.failed[:FAILURES_SHOWN]]
        left = len(study.failed) - len(rows)
        parts.append(table(("trial", "generation", "error"), rows))
        parts.append(f"<p>{left} more in trials.jsonl</p>" if left else "")
    else:
        parts.append("<p>No trial failed.</p>")
    rows = []
    for event in study.events:
        rest = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("time", "event") and value)
        rows.append((str(event.get("time", "")), str(event.get("event", "")), rest))
    if rows:
        parts.append("<h3>Events</h3>" + table(("time", "event", "details"), rows))
    return section("Failures and events", "".join(parts))


def section(title: str, body: str) -> str:
    """A section with its heading."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table that scrolls sideways if it does not fit."""
    cells = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _content(cell: Cell) -> str:
    if cell.content is None:
        return "<td></td>"
    told = (
        "" if cell.content_ci95 is None else f" title='95 %: {cell.content_ci95[0]:.1%} to {cell.content_ci95[1]:.1%}'"
    )
    return f"<td class=num{told}>{cell.content:.1%}</td>"


def _versus_in_content(cell: Cell, style: str) -> str:
    return f"<td class=num>{_versus(cell.content_versus_evolved) if style != 'evolved' else ''}</td>"


def _versus(versus: Difference | None) -> str:
    if versus is None:
        return ""
    low, high = versus.ci95
    why = "the interval contains zero" if versus.p_corrected is None else "after Holm's correction"
    unsure = "" if versus.certain else f' <abbr title="not significant: {why}">n.s.</abbr>'
    return f"{versus.mean:+.2f} [{low:+.2f}, {high:+.2f}]{unsure}"


def _noted(cell: Cell) -> str:
    return f" ({escape(cell.note)})" if cell.note else ""


def _item_facts(study: StudyData) -> str:
    data = study.header.get("data") or {}
    named = [f"{key} {value}" for key, value in data.items() if value]
    return ", ".join(named) or study.task


def _versions(study: StudyData) -> str:
    versions = (study.result and study.result.versions) or study.header.get("versions", "unknown")
    return ", ".join(f"{name} {value}" for name, value in versions.items()) if isinstance(versions, dict) else ""


def _facts(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _code(title: str, recipe: Recipe) -> str:
    text = escape(recipe_text(recipe))
    return f"<details><summary>{escape(title)}</summary><pre><code>{text}</code></pre></details>"
