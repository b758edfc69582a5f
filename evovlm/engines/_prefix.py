"""Hidden states of a route's beginning, kept for the next route that begins alike.

Knows steps and KV caches; runs no layer. What is kept is what was computed, so that answers do not change by a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from evovlm.recipe.route import Step


@dataclass(frozen=True)
class _Kept:
    hidden: Tensor  # [batch, length, hidden], after the step
    keys: Tensor
    values: Tensor

    @property
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.hidden, self.keys, self.values))


class PrefixMemory:
    """What each batch of prompts looked like after each step of the last route, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.reused = 0  # steps of whole batches that were recalled instead of computed
        self._held = 0
        self._route: tuple[Step, ...] = ()
        self._kept: dict[tuple[int, ...], dict[int, _Kept]] = {}
        self._prompts: dict[tuple[int, ...], Sequence[Any]] = {}
        self._batch: tuple[int, ...] | None = None

    def turn_to(self, route: Sequence[Step]) -> None:
        """Another route comes: forget all that it does not begin with."""
        common = 0
        while common < min(len(route), len(self._route)) and route[common] == self._route[common]:
            common += 1
        for steps in self._kept.values():
            for index in [index for index in steps if index >= common]:
                self._held -= steps.pop(index).nbytes
        self._route = tuple(route)

    @contextmanager
    def batch(self, prompts: Sequence[Any]) -> Iterator[None]:
        """Within this block the model reads these prompts."""
        # Prompts are known by identity and held, so that no other can take their place.
        key = tuple(id(prompt) for prompt in prompts)
        self._prompts[key] = prompts
        self._batch = key
        try:
            yield
        finally:
            self._batch = None

    def recall(self, index: int, hidden: Tensor, cache: Any) -> Tensor | None:
        """The stream after a step, its slot of the cache filled; None where it must be computed.

        Only the reading of the prompt may be recalled: ask for no slot that already holds something.
        """
        if self._batch is None:
            return None
        known = self._kept.get(self._batch, {}).get(index)
        if known is None or known.hidden.shape != hidden.shape:
            return None
        cache.update(known.keys, known.values, index)
        self.reused += 1
        return known.hidden

    def keep(self, index: int, hidden: Tensor, cache: Any) -> None:
        """Keep the stream after a step and its slot, if all steps before are kept and the budget allows."""
        if self._batch is None:
            return
        steps = self._kept.setdefault(self._batch, {})
        # A slot with a sliding window has forgotten what came before it.
        if index != len(steps) or getattr(cache.layers[index], "is_sliding", False):
            return
        # The cache appends by making new tensors, so these stay what they are.
        kept = _Kept(hidden, cache.layers[index].keys, cache.layers[index].values)
        if self._held + kept.nbytes <= self.budget:
            steps[index] = kept
            self._held += kept.nbytes
