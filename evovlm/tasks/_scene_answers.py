"""What answers about the zoos' scenes say, and how rules reword them: `content` and `restyle` of their tasks.

Knows items and the zoos' words; no data sets.
"""

from __future__ import annotations

from evovlm.tasks.protocol import Item
from evovlm.zoo.content import SLOTS, says
from evovlm.zoo.style import polite


def says_right(item: Item, answer: str) -> bool | None:
    """Whether an answer says what the item's first reference says; None for a question that no zoo generates."""
    if item.skill not in SLOTS:
        return None
    return says(answer, item.references[0], item.skill, item.question)


def reworded(item: Item, answer: str) -> str:
    """The answer in the references' style; unchanged for a question that no zoo generates."""
    return polite(answer, item.skill, item.question) if item.skill in SLOTS else answer
