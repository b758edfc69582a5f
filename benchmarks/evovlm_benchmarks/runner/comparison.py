"""Compare results on the same items: differences, wins and losses, and the answers that changed most.

Knows results and statistics; draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evovlm.system.errors import UserError
from evovlm.system.statistics import Difference, paired_difference
from evovlm.tasks.item_sets import numbered_pictures
from evovlm_benchmarks.runner.results import Answer, Result

CHANCE = "n.s."  # marks a difference whose 95 % interval includes zero
JUDGED = (
    "scoring",
    "language",
)  # rules that affect an answer's score; a preset's others affect the answer itself


@dataclass(frozen=True)
class Entry:
    """A result with its answers by item id. `name`: the model, with its run if several runs have that model."""

    name: str
    result: Result
    answers: Mapping[str, Answer]


@dataclass(frozen=True)
class Change:
    """An item on which two models' scores differ."""

    id: str
    question: str
    references: tuple[str, ...]
    first: Answer
    second: Answer

    @property
    def gain(self) -> float:
        """The second's score minus the first's."""
        return self.second.score - self.first.score


@dataclass(frozen=True)
class Versus:
    """`entry` compared with the reference entry; positive differences favour `entry`."""

    entry: Entry
    difference: Difference
    wins: int
    losses: int
    ties: int
    changes: tuple[Change, ...]

    @property
    def marked(self) -> str:
        """The difference as text, marked `n.s.` if it is not significant."""
        return _in_words(self.difference, 2, f", p {self.difference.p_value:.3f}")


def _in_words(found: Difference, places: int, more: str = "") -> str:
    """Mean and interval as text, marked `n.s.` if not significant."""
    mean, low, high = (f"{value:+.{places}f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]{more}" + ("" if found.significant else f" {CHANCE}")


def against(reference: Entry, entry: Entry, *, changes: int = 5) -> Versus:
    """Compare an entry with the reference, item by item. Raises UserError if items or scoring rules differ."""
    _refuse_unlike(reference, entry)
    missing = [key for key in reference.answers if key not in entry.answers]
    if missing:
        raise UserError(f"{entry.name}: {len(missing)} answers are missing, {missing[0]!r} among them; run it again")
    pairs = [(reference.answers[key], entry.answers[key]) for key in reference.answers]
    difference = paired_difference(
        [second.score for _, second in pairs],
        [first.score for first, _ in pairs],
        seed=reference.result.seed,
        clusters=numbered_pictures([first for first, _ in pairs]),
    )
    changed = [
        Change(first.id, first.question, first.references, first, second)
        for first, second in pairs
        if first.score != second.score
    ]
    changed.sort(key=lambda change: (-abs(change.gain), change.id))
    wins = sum(change.gain > 0 for change in changed)
    return Versus(entry, difference, wins, len(changed) - wins, len(pairs) - len(changed), tuple(changed[:changes]))


def behind_best(entries: Sequence[Entry]) -> dict[str, str]:
    """Each entry's difference from the best one of the same task and preset, as text; keyed by answer file.

    Empty for the best itself. Keyed by file because one model may occur with several presets, so names are not unique.
    """
    told = {}
    by_preset: dict[Any, list[Entry]] = {}
    for key, group in by_task(entries).items():
        for entry in group:
            by_preset.setdefault((key, entry.result.rules.get("preset")), []).append(entry)
    for group in by_preset.values():
        best = group[0]
        for entry in group:
            text = "" if entry is best else _in_words(against(best, entry, changes=0).difference, 1)
            told[entry.result.answers] = text
    return told


def by_task(entries: Sequence[Entry]) -> dict[tuple[str, ...], list[Entry]]:
    """Group entries with the same task, split, items and scoring rules; each group is sorted, the best first.

    Results of earlier versions do not say which images the items had; they count as those of the first group.
    """
    keys: list[tuple[str, ...]] = []
    first: dict[tuple[str, ...], str] = {}
    for entry in entries:
        result = entry.result
        judged = (str(result.rules.get(key)) for key in JUDGED)
        keys.append((result.task, result.split, result.items_digest, *judged))
        first[keys[-1]] = first.get(keys[-1]) or result.images_digest
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for key, entry in zip(keys, entries, strict=True):
        images = entry.result.images_digest
        groups.setdefault((*key, images) if images not in ("", first[key]) else key, []).append(entry)
    return {key: sorted(group, key=lambda entry: -entry.result.score) for key, group in groups.items()}


def _refuse_unlike(one: Entry, other: Entry) -> None:
    first, second = one.result, other.result
    if (first.task, first.split, first.items_digest) != (second.task, second.split, second.items_digest):
        raise UserError(
            f"{one.name} answered {first.items} items of {first.task}:{first.split}, {other.name} {second.items} of"
            f" {second.task}:{second.split}, not the same; run both with the same --items and --seed"
        )
    if first.images_digest and second.images_digest and first.images_digest != second.images_digest:
        raise UserError(
            f"{one.name} and {other.name} answered the same questions of {first.task}:{first.split} about different"
            " images; run both with the same data"
        )
    for key in JUDGED:
        if first.rules.get(key) != second.rules.get(key):
            raise UserError(
                f"{one.name} was scored with {key} {first.rules.get(key)!r}, {other.name} with"
                f" {second.rules.get(key)!r}; score both the same way"
            )
