"""Answers as HTML cards: each model's text with its scores and timing. All model output is escaped.

Knows replies, scores and words; no components and no models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from evovlm.tasks.metrics.language import is_japanese
from evovlm.tasks.metrics.numbers import extract_number, same_number
from evovlm.tasks.metrics.rouge import exact_match, rouge_l_ja
from evovlm_app.streaming import Reply
from evovlm_app.words import Language, say

Fact = tuple[str, str]  # (style, text)
HINT = "answers-hint"
UNDER_WAY = ("waiting", "loading", "writing")
CARET = '<span class="caret" aria-hidden="true"></span>'
UNBEGUN = re.compile(r'(<article class="answer \w+ )(?:waiting|loading)("[^>]*>.*?<p class="said quiet">)[^<]*')


def seen_rows(replies: Sequence[Reply], references: Sequence[str]) -> list[dict[str, Any]]:
    """The replies as JSON rows, with their language.

    If references are known, also ROUGE-L (0 to 100) and whether the answer is an exact match.
    """
    rows = []
    for reply in replies:
        row: dict[str, Any] = {**_base(reply), "sees": not reply.blind}
        if reply.state == "done":
            row["language"] = "ja" if is_japanese(reply.text) else "other"
            if references:
                row["reference"] = references[0]
                row["rouge_l"] = round(rouge_l_ja(reply.text, references), 1)
                row["exact"] = exact_match(reply.text, references)
        rows.append(row)
    return rows


def solved_rows(replies: Sequence[Reply], expected: str | None) -> list[dict[str, Any]]:
    """The replies as JSON rows, with their language and extracted number.

    If the correct number is known, also whether the answer is right.
    """
    rows = []
    for reply in replies:
        row = _base(reply)
        if reply.state == "done":
            row["language"] = "ja" if is_japanese(reply.text) else "other"
            row["number"] = extract_number(reply.text)
            if expected:
                row["right"] = same_number(row["number"], expected)
        rows.append(row)
    return rows


def cards(rows: Sequence[dict[str, Any]], language: Language) -> str:
    """The rows as HTML, one article per model; a hint if there are no rows."""
    if not rows:
        return f'<p class="{HINT}">{escape(say("answers_hint", language))}</p>'
    known = next((row["reference"] for row in rows if "reference" in row), None)
    told = ""
    if known is not None:
        told = f'<p class="known">{escape(say("reference", language))} <b lang="ja">{escape(known)}</b></p>'
    busy = "true" if any(row["state"] in UNDER_WAY for row in rows) else "false"
    drawn = "".join(_card(row, language) for row in rows)
    return f'{told}<div class="answers" role="list" aria-busy="{busy}">{drawn}</div>'


def stopped(shown: str, language: Language) -> str:
    """Mark the unfinished cards in the shown HTML as stopped; text written so far stays."""
    said = escape(say("stopped", language))
    shown = shown.replace(CARET, f' <span class="quiet">({said})</span>').replace(' writing"', ' stopped"')
    return UNBEGUN.sub(rf"\1stopped\2{said}", shown).replace('aria-busy="true"', 'aria-busy="false"')


def _base(reply: Reply) -> dict[str, Any]:
    return {
        "model": reply.model,
        "kind": "merge" if reply.merged else "source",
        "state": reply.state,
        "answer": reply.text,
        "seconds": round(reply.seconds, 3),
        "tokens": reply.tokens,
    }


def _card(row: dict[str, Any], language: Language) -> str:
    state = row["state"]
    if state in ("waiting", "loading", "failed", "unfit", "unasked"):
        said = f'<p class="said quiet">{escape(say(state, language))}</p>'
    else:
        text = escape(row["answer"])
        caret = CARET if state == "writing" else ""
        said = f'<p class="said" lang="ja">{text or escape(say("empty", language)) * (state == "done")}{caret}</p>'
    facts = "".join(f'<li class="{style}">{escape(text)}</li>' for style, text in _facts(row, language))
    badge = ""
    if row.get("sees") is False:
        hint = escape(say("blind_hint", language))
        badge = f'<span class="badge" title="{hint}">{escape(say("blind", language))}</span>'
    # A bar for ROUGE-L; the number itself is listed among the facts.
    width = row.get("rouge_l", 0)
    meter = f'<span class="meter" aria-hidden="true"><i style="width:{width:.0f}%"></i></span>'
    name = escape(row["model"])
    return (
        f'<article class="answer {row["kind"]} {state}" role="listitem" data-model="{name}">'
        f"<h3>{name}{badge}</h3>{said}{meter if 'rouge_l' in row else ''}<ul>{facts}</ul></article>"
    )


def _facts(row: dict[str, Any], language: Language) -> list[Fact]:
    if row["state"] not in ("done", "writing"):
        return []
    facts: list[Fact] = []
    if "right" in row:
        facts.append(("good", say("right", language)) if row["right"] else ("bad", say("wrong", language)))
    if "number" in row:
        number = row["number"]
        facts.append(
            ("plain", say("number", language, number=number) if number is not None else say("no_number", language))
        )
    if "rouge_l" in row:
        facts.append(("plain", say("rouge", language, score=f"{row['rouge_l']:.0f}")))
        if row["exact"]:
            facts.append(("good", say("exactly_right", language)))
    if "language" in row:
        japanese = row["language"] == "ja"
        facts.append(("plain", say("japanese", language)) if japanese else ("bad", say("not_japanese", language)))
    facts.append(("plain", say("seconds", language, seconds=f"{row['seconds']:.2f}")))
    facts.append(("plain", say("tokens", language, count=row["tokens"])))
    if "merged" in row:
        facts.append(("plain", say("merged_in", language, seconds=f"{row['merged']:.2f}")))
    return facts
