"""Answers as cards: what each model said, and what can be said about it. Everything a model wrote is escaped.

Knows replies, scores and words; no components and no models.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from app.streaming import Reply
from app.words import Language, say
from evovlm.metrics.language import is_japanese
from evovlm.metrics.numbers import extract_number, same_number
from evovlm.metrics.rouge import exact_match, rouge_l_ja

Fact = tuple[str, str]  # (style, text)


def seen_rows(replies: Sequence[Reply], references: Sequence[str]) -> list[dict[str, Any]]:
    """The replies with language and, against known references, ROUGE-L and exactness: JSON for the API."""
    rows = []
    for reply in replies:
        row: dict[str, Any] = {**_base(reply), "sees": not reply.blind}
        if reply.state == "done":
            row["language"] = "ja" if is_japanese(reply.text) else "other"
            if references:
                row["rouge_l"] = round(rouge_l_ja(reply.text, references), 1)
                row["exact"] = exact_match(reply.text, references)
        rows.append(row)
    return rows


def solved_rows(replies: Sequence[Reply], expected: str | None) -> list[dict[str, Any]]:
    """The replies with language, the extracted number and, where the right one is known, right or wrong."""
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
    """The rows as HTML, an article a model."""
    if not rows:
        # Said in both languages, for it stands there before anybody's language is known.
        return f'<p class="answers-hint">{say("answers_hint", "ja")}<br>{say("answers_hint", "en")}</p>'
    return f'<div class="answers" role="list">{"".join(_card(row, language) for row in rows)}</div>'


def _base(reply: Reply) -> dict[str, Any]:
    return {
        "model": reply.model,
        "state": reply.state,
        "answer": reply.text,
        "seconds": round(reply.seconds, 3),
        "tokens": reply.tokens,
    }


def _card(row: dict[str, Any], language: Language) -> str:
    state = row["state"]
    if state in ("waiting", "loading", "failed"):
        said = f'<p class="said quiet">{escape(say(state, language))}</p>'
    else:
        text = escape(row["answer"])
        caret = '<span class="caret" aria-hidden="true"></span>' if state == "writing" else ""
        said = f'<p class="said" lang="ja">{text or escape(say("empty", language)) * (state == "done")}{caret}</p>'
    facts = "".join(f'<li class="{style}">{escape(text)}</li>' for style, text in _facts(row, language))
    badge = ""
    if row.get("sees") is False:
        hint = escape(say("blind_hint", language))
        badge = f'<span class="badge" title="{hint}">{escape(say("blind", language))}</span>'
    return (
        f'<article class="answer {state}" role="listitem" data-model="{escape(row["model"])}">'
        f"<h3>{escape(row['model'])}{badge}</h3>{said}<ul>{facts}</ul></article>"
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
