"""Score one answer: ROUGE-L for free text, the final number for word problems, the option for multiple choice.

Knows items and metrics; no data sets.
"""

from __future__ import annotations

import re

from evovlm.system.errors import DataError
from evovlm.system.plain_text import abridged
from evovlm.tasks.metrics.language import Detector
from evovlm.tasks.metrics.limits import nfkc
from evovlm.tasks.metrics.normalise import normalise
from evovlm.tasks.metrics.numbers import MOST_DIGITS, MOST_POWER, NumberScoring, extract_number, same_number
from evovlm.tasks.metrics.rouge import exact_match, rouge_l, rouge_l_ja
from evovlm.tasks.protocol import Item, ItemScore

FULL = 100.0
_TOO_MANY_DIGITS = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")


def mark_words(item: Item, answer: str, japanese: Detector) -> ItemScore:
    """ROUGE-L F-measure (0 to 100) on MeCab tokens with the language rule.

    `beside`: the score without that rule, and whether the answer is Japanese (100 or 0).
    """
    beside = {"rougeL": rouge_l(answer, item.references), "japanese": FULL * japanese(answer)}
    score = rouge_l_ja(answer, item.references, japanese=japanese)
    return ItemScore(score, exact_match(answer, item.references), beside)


def mark_number(item: Item, answer: str, japanese: Detector, scoring: NumberScoring) -> ItemScore:
    """100 if the number is right and the answer is Japanese, else 0.

    `beside`: the scores under both ways of reading numbers, with and without the language rule, and whether the answer
    is Japanese (100 or 0). Raises DataError if a reference holds no number.
    """
    is_japanese = japanese(answer)
    right = {rule: says_number(item, answer, rule) for rule in ("compatible", "corrected")}
    beside = {f"{rule}_ja": FULL * (found and is_japanese) for rule, found in right.items()}
    beside |= {rule: FULL * found for rule, found in right.items()} | {"japanese": FULL * is_japanese}
    full = right[scoring] and is_japanese
    return ItemScore(FULL * full, full, beside)


def mark_choice(item: Item, answer: str) -> ItemScore:
    """100 if the answer names the right choice by its text or its number (both are references), else 0."""
    said = normalise(answer)
    digits = re.findall(r"\d+", nfkc(said))
    named = {said.strip("「」。. "), *digits[:1]}
    right = bool(named & {normalise(reference) for reference in item.references})
    return ItemScore(FULL * right, right)


def number_of(item: Item, reference: str) -> str:
    """The number in a reference such as "18" or "1,800円". Raises DataError if there is none that can be compared."""
    if _TOO_MANY_DIGITS.search(reference):
        raise DataError(
            f"item {abridged(item.id)}: its reference {abridged(reference)!r} has more than {MOST_DIGITS} digits in"
            " a row, and such numbers are not compared; give a shorter one"
        )
    found = reference if same_number(reference, reference) else extract_number(reference)
    if found is None:
        raise DataError(
            f"item {abridged(item.id)}: its reference {abridged(reference)!r} holds no number, or one with a power of"
            f" ten above {MOST_POWER}; give one, such as 18"
        )
    return found


def says_number(item: Item, answer: str, scoring: NumberScoring) -> bool:
    """Whether the answer's number is one of the references', in whatever language. Raises DataError as `number_of`."""
    found = extract_number(answer, scoring)
    return any(same_number(found, number_of(item, reference)) for reference in item.references)
