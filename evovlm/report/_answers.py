"""Answers side by side with their images, as HTML.

Knows the rows of a study's answers. Always shows the first items, never items selected by their answers.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from evovlm.report._sections import section
from evovlm.report.data import Row, StudyData
from evovlm.report.words import control_name

ITEMS = 12
PROGRESS_ITEMS = 4


def held_out_answers(study: StudyData) -> str:
    """One card per item: image, question, reference, and the answers of sources, evolved model and controls."""
    by_item: dict[str, dict[str, Row]] = {}
    for row in study.held_out_answers:
        if not row["id"].endswith("#shuffled"):
            by_item.setdefault(row["id"], {})[row["model"]] = row
    if not by_item:
        return ""
    # A study keeps the images of its first items only; if it has none, take the first items.
    chosen = [item for item in by_item if item in study.images] or list(by_item)
    cards = [_card(item, by_item[item], study) for item in chosen[:ITEMS]]
    note = "<p>The first held-out items, not selected by their answers.</p>"
    return section("Answers side by side", f'{note}<div class="cards">{"".join(cards)}</div>')


def progress_answers(study: StudyData) -> str:
    """The answers to a few search items, from one best candidate to the next."""
    by_item: dict[str, list[Row]] = {}
    for row in study.answers:
        by_item.setdefault(row["id"], []).append(row)
    if not by_item:
        return ""
    parts = []
    for item, rows in list(by_item.items())[:PROGRESS_ITEMS]:
        lines = "".join(
            f"<tr><td class=num>{row['trial']}</td><td lang=ja>{_answer(row)}</td>"
            f"<td class=num>{row['score']:.1f}</td></tr>"
            for row in rows
        )
        head = (
            "<thead><tr><th scope=col class=num>trial</th><th scope=col>answer</th><th scope=col class=num>score</th>"
        )
        parts.append(
            f"<details><summary>{escape(item)}: {len(rows)} best candidates</summary>"
            f'<div class="scroll"><table><thead>{head}</thead><tbody>{lines}</tbody></table></div></details>'
        )
    return section("How answers changed during the search", "".join(parts))


def image_uri(path: Path) -> str:
    """A PNG file as a data URI, so that the page is self-contained."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _card(item: str, rows: Mapping[str, Row], study: StudyData) -> str:
    first = next(iter(rows.values()))
    question, references = str(first["question"]), [str(reference) for reference in first["references"]]
    picture = ""
    if item in study.images:
        alt = escape(f"Image of item {item}. Question: {question} Reference: {references[0] if references else ''}")
        picture = f'<img src="{image_uri(study.images[item])}" alt="{alt}" loading="lazy">'
    sources = [name for name in rows if name not in ("evolved", *_controls(study))]
    shown = [*sources, *(["evolved"] if "evolved" in rows else [])]
    others = [name for name in _controls(study) if name in rows]
    more = f"<details><summary>controls</summary>{_answers(others, rows, study)}</details>" if others else ""
    return (
        f'<article class="card">{picture}<div class="words"><p class="question" lang="ja">{escape(question)}</p>'
        f'<p class="reference" lang="ja">reference: {escape(" / ".join(references))}</p>'
        f"{_answers(shown, rows, study)}{more}</div></article>"
    )


def _answers(models: Sequence[str], rows: Mapping[str, Row], study: StudyData) -> str:
    lines = []
    for name in models:
        row, style = rows[name], "evolved" if name == "evolved" else ""
        label = control_name(name) if name in _controls(study) else name
        mark = ' <span class="exact">exact</span>' if row.get("exact") else ""
        lines.append(
            f'<tr class="{style}"><th scope=row>{escape(label)}</th><td lang="ja">{_answer(row)}{mark}</td>'
            f"<td class=num>{row['score']:.1f}</td></tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def _controls(study: StudyData) -> list[str]:
    return [] if study.result is None else list(study.result.held_out.controls)


def _answer(row: Row) -> str:
    return escape(str(row["answer"])) or '<span class="empty">(empty)</span>'
