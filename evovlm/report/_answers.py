"""Answers side by side with their images, as HTML.

Knows the rows of a study's answers. Always shows the first items, never items selected by their answers.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from evovlm.report._sections import section
from evovlm.report.data import ProgressAnswer, StudyData
from evovlm.report.words import row_name
from evovlm.study.held_out_log import EVOLVED, HeldOutAnswer, Kind

Rows = dict[tuple[Kind, str], HeldOutAnswer]  # by row of the held-out table
ITEMS = 12
PROGRESS_ITEMS = 4


def held_out_answers(study: StudyData) -> str:
    """One card per item: image, question, reference, and the answers of sources, evolved model and controls."""
    by_item: dict[str, Rows] = {}
    for row in study.held_out_answers:
        if not row.id.endswith("#shuffled"):
            by_item.setdefault(row.id, {})[row.row] = row
    if not by_item:
        return ""
    # A study keeps the images of its first items only; if it has none, take the first items.
    chosen = [item for item in by_item if item in study.images] or list(by_item)
    cards = [_card(item, by_item[item], study) for item in chosen[:ITEMS]]
    note = "<p>The first held-out items, not selected by their answers.</p>"
    return section("Answers side by side", f'{note}<div class="cards">{"".join(cards)}</div>')


def progress_answers(study: StudyData) -> str:
    """The answers to a few search items, from one best candidate to the next."""
    by_item: dict[str, list[ProgressAnswer]] = {}
    for row in study.answers:
        by_item.setdefault(row.id, []).append(row)
    if not by_item:
        return ""
    parts = []
    for item, rows in list(by_item.items())[:PROGRESS_ITEMS]:
        lines = "".join(
            f"<tr><td class=num>{row.trial}</td><td lang=ja>{_answer(row)}</td><td class=num>{row.score:.1f}</td></tr>"
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


def _card(item: str, rows: Rows, study: StudyData) -> str:
    first = next(iter(rows.values()))
    question, references = first.question, list(first.references)
    picture = ""
    if item in study.images:
        alt = escape(f"Image of item {item}. Question: {question} Reference: {references[0] if references else ''}")
        picture = f'<img src="{image_uri(study.images[item])}" alt="{alt}" loading="lazy">'
    by_kind = {kind: [row for row in rows.values() if row.kind == kind] for kind in ("sources", "evolved", "controls")}
    others = by_kind["controls"]
    more = f"<details><summary>controls</summary>{_answers(others)}</details>" if others else ""
    return (
        f'<article class="card">{picture}<div class="words"><p class="question" lang="ja">{escape(question)}</p>'
        f'<p class="reference" lang="ja">reference: {escape(" / ".join(references))}</p>'
        f"{_answers([*by_kind['sources'], *by_kind['evolved']])}{more}</div></article>"
    )


def _answers(rows: Sequence[HeldOutAnswer]) -> str:
    lines = []
    for row in rows:
        style = "evolved" if row.kind == EVOLVED else ""
        mark = ' <span class="exact">exact</span>' if row.exact else ""
        name = escape(row_name(*row.row))
        lines.append(
            f'<tr class="{style}"><th scope=row>{name}</th><td lang="ja">{_answer(row)}{mark}</td>'
            f"<td class=num>{row.score:.1f}</td></tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def _answer(row: HeldOutAnswer | ProgressAnswer) -> str:
    return escape(row.answer) or '<span class="empty">(empty)</span>'
