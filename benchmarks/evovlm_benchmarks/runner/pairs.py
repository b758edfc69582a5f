"""The pairs of a suite: each model with each task and its items. Knows tasks; loads no models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evovlm.recipe.where import split_where
from evovlm.system.errors import UserError
from evovlm.tasks import Item, Options, Task, parse_split, presets_of
from evovlm_benchmarks.runner.results import slug
from evovlm_benchmarks.runner.suite import Suite, SuiteModel, SuiteTask


@dataclass(frozen=True)
class Pair:
    """One model on one task."""

    model: SuiteModel
    asked: SuiteTask
    task: Task
    split: str
    items: tuple[Item, ...]

    @property
    def stem(self) -> str:
        """The file name stem of the pair's files."""
        return slug(self.model.name, self.asked.task, str(self.task.rules.get("preset", "")))


def plan_pairs(suite: Suite, options: Options) -> list[Pair]:
    """All pairs, model by model, with their items. Raises UserError, before any work, if data are missing."""
    pairs: list[Pair] = []
    read: dict[tuple[str, str | None, int | None], tuple[Task, str, tuple[Item, ...]]] = {}
    for model in suite.models:
        for asked in suite.tasks:
            own = model.presets if model.presets and model.presets in presets_of(split_where(asked.task)[0]) else None
            preset = "+".join(filter(None, (asked.preset, own))) or None
            key = (asked.task, preset, asked.items)
            if key not in read:
                task, split = parse_split(asked.task, replace(options, preset=preset))
                read[key] = task, split, tuple(task.items(split, asked.items, suite.seed))
            pairs.append(Pair(model, asked, *read[key]))
    _refuse_twice(pairs)
    return pairs


def _refuse_twice(pairs: Sequence[Pair]) -> None:
    """Raise UserError if two pairs would write the same answer file."""
    for stem, count in Counter(pair.stem for pair in pairs).items():
        if count > 1:
            pair = next(pair for pair in pairs if pair.stem == stem)
            raise UserError(f"{pair.asked.task} is listed twice with the same preset; drop one or change its preset")
