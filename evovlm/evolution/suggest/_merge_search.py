"""Small searches: what a source adds to others at one strength, and without the layers in which it does harm.

Knows an evaluator, recipes and layer groups; no kinship and no ranking. A merge adds task vectors times a strength. The
newcomer's layer groups are tried one by one, the last first, and left out if the merge scores better without them
(backward elimination from the head down, because over-tuned layers are mostly the last ones). These decisions use
every other item; the reported scores of a merge come from the remaining items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.recipe.layer_groups import group_names
from evovlm.recipe.schema import Recipe, SourceParameters
from evovlm.system.faults import failure_of
from evovlm.tasks.item_sets import ItemSet

# Multiples of 1 / sqrt(number of sources), which keeps the norm of orthogonal task vectors; the better one is used.
STRENGTHS = (0.6, 1.0)

Kept = Mapping[str, tuple[str, ...]]  # source -> its layer groups that are in the merge


class MergeSearch:
    """Merges of subsets of the sources, each evaluated once. `answers`: number of answers used so far."""

    def __init__(
        self,
        evaluator: LocalEvaluator,
        recipe: Recipe,
        items: ItemSet,
        layers: int,
        step: Callable[[str], None],
    ) -> None:
        self._evaluator, self._recipe, self._step = evaluator, recipe, step
        self._deciding, self._judging = items[::2], items[1::2]
        self._groups = tuple(group_names(recipe.groups, layers))
        self._found: dict[tuple[str, ...], tuple[Kept, Evaluation]] = {}
        self.answers = 0
        for part in (self._deciding, self._judging):
            evaluator.prepare(part)
        # If the base itself fails, no ranking is possible, so its error is raised instead of counting as a low score.
        self.base = evaluator.evaluate(self._recipe_of({}, 0.0), self._judging)
        self.answers += len(self._judging)
        step("base")

    def of(self, chosen: Sequence[str], newcomer: str, *, small: bool) -> Evaluation:
        """The merge of the `chosen` sources, in order, with one more. `small`: also try to leave layer groups out."""
        key = (*chosen, newcomer) if small else ("", *chosen, newcomer)
        if key not in self._found:
            whole = {name: self._kept(chosen, name) for name in chosen} | {newcomer: self._groups}
            kept, strength = self._decide(whole, newcomer, small)
            self._found[key] = kept, self._ask(kept, strength, self._judging)
            self._step(" + ".join((*chosen, newcomer)))
        return self._found[key][1]

    def made(self, chosen: Sequence[str]) -> Evaluation:
        """The merge of the `chosen` sources, from a small search if there was one; the base if none is chosen."""
        if not chosen:
            return self.base
        return (self._found.get(tuple(chosen)) or self._found["", *chosen])[1]

    def left_out(self, chosen: Sequence[str], source: str) -> tuple[str, ...]:
        """The layer groups of a source that were left out of the merge of the `chosen` sources."""
        kept = self._kept(chosen, source)
        return tuple(group for group in self._groups if group not in kept)

    def _kept(self, chosen: Sequence[str], source: str) -> tuple[str, ...]:
        for key in (tuple(chosen), ("", *chosen), (source,), ("", source)):
            if key in self._found and source in self._found[key][0]:
                return self._found[key][0][source]
        return self._groups

    def _decide(self, kept: Kept, newcomer: str, small: bool) -> tuple[Kept, float]:
        scores = {strength: self._ask(kept, strength, self._deciding).score for strength in STRENGTHS}
        strength = max(scores, key=lambda one: scores[one])
        best = scores[strength]
        for group in reversed(self._groups if small else ()):
            fewer = {**kept, newcomer: tuple(one for one in kept[newcomer] if one != group)}
            score = self._ask(fewer, strength, self._deciding).score
            if score > best:
                kept, best = fewer, score
        return kept, strength

    def _ask(self, kept: Kept, strength: float, items: ItemSet) -> Evaluation:
        """Evaluate a merge; all scores are zero if it fails."""
        self.answers += len(items)
        try:
            return self._evaluator.evaluate(self._recipe_of(kept, strength), items)
        except Exception as fault:
            failure_of(fault)  # raises unless the merge is at fault
            count = len(items)
            return Evaluation((0.0,) * count, (False,) * count, ("",) * count)

    def _recipe_of(self, kept: Kept, strength: float) -> Recipe:
        weight = strength / math.sqrt(max(1, len(kept)))
        parameters = {
            name: SourceParameters(weight={group: weight * (group in kept.get(name, ())) for group in self._groups})
            for name in self._recipe.source_names
        }
        return self._recipe.model_copy(update={"parameters": parameters})
