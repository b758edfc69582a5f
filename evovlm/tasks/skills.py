"""Group a task's items by skill. Knows items and question words; no models and no scores.

Items may name their skill themselves. If they do not, questions are grouped by their Japanese question words; if that
gives fewer than two groups, the skills are "short questions" and "long questions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from evovlm.tasks.protocol import Item

FEWEST = 0.1  # a skill has at least this share of the items
# The first match counts: a question about the colour of a thing somewhere is about colour.
QUESTION_WORDS = {
    "colour": re.compile(r"何色|なにいろ|どんな色"),
    "count": re.compile(r"いくつ|何[個人匹本枚台頭羽つ杯軒着足番]|どれ(?:くらい|だけ)"),
    "time": re.compile(r"いつ|何[時年月日曜]"),
    "place": re.compile(r"どこ|どちら|どの場所"),
    "who": re.compile(r"誰|だれ"),
    "why": re.compile(r"なぜ|どうして|なんで"),
    "how": re.compile(r"どの(?:よう|ような)|どんな|どう"),
    "what": re.compile(r"何|なに|なん"),
}


def skills_of(items: Sequence[Item]) -> dict[str, tuple[int, ...]]:
    """Map each skill to the indices of its items, the most frequent skill first.

    Skills with under 10 % of the items are left out; the result is empty if fewer than two skills remain.
    """
    for names in ([item.skill for item in items], [_kind(item.question) for item in items], _lengths(items)):
        found: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            if name:
                found.setdefault(name, []).append(place)
        often = {name: tuple(places) for name, places in found.items() if len(places) >= FEWEST * len(items)}
        if len(often) > 1:
            return dict(sorted(often.items(), key=lambda pair: (-len(pair[1]), pair[0])))
    return {}


def _kind(question: str) -> str:
    return next((name for name, words in QUESTION_WORDS.items() if words.search(question)), "")


def _lengths(items: Sequence[Item]) -> list[str]:
    middle = median(len(item.question) for item in items)
    return ["long questions" if len(item.question) > middle else "short questions" for item in items]
