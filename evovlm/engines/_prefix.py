"""Caches hidden states of a route's first steps, for the next route that starts with the same steps.

Knows steps and KV caches; runs no layer. Exactly what was computed is kept, so answers do not change by a bit.
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
    """The hidden states of each batch of prompts after each step of the last route, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.reused = 0  # steps (each for a whole batch) that were recalled instead of computed
        self._held = 0
        self._route: tuple[Step, ...] = ()
        self._kept: dict[tuple[int, ...], dict[int, _Kept]] = {}
        self._prompts: dict[tuple[int, ...], Sequence[Any]] = {}
        self._batch: tuple[int, ...] | None = None

    def turn_to(self, route: Sequence[Step]) -> None:
        """Switch to another route: forget all steps after the common prefix with the last one."""
        common = 0
        while common < min(len(route), len(self._route)) and route[common] == self._route[common]:
            common += 1
        for steps in self._kept.values():
            for index in [index for index in steps if index >= common]:
                self._held -= steps.pop(index).nbytes
        self._route = tuple(route)

    @contextmanager
    def batch(self, prompts: Sequence[Any]) -> Iterator[None]:
        """Context in which the model reads these prompts."""
        # Prompts are identified by id() and kept alive, so that no other object can get the same id.
        key = tuple(id(prompt) for prompt in prompts)
        self._prompts[key] = prompts
        self._batch = key
        try:
            yield
        finally:
            self._batch = None

    def recall(self, index: int, hidden: Tensor, cache: Any) -> Tensor | None:
        """Return the stream [batch, length, hidden] after step `index` and fill its cache slot; None if not kept.

        Only prefill can be recalled: do not call this for a slot that already holds tokens.
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
        """Keep the stream after a step and its cache slot, if all earlier steps are kept and the budget allows."""
        if self._batch is None:
            return
        steps = self._kept.setdefault(self._batch, {})
        # A slot with a sliding window no longer holds the tokens before its window.
        if index != len(steps) or getattr(cache.layers[index], "is_sliding", False):
            return
        # The cache appends by making new tensors, so these do not change.
        kept = _Kept(hidden, cache.layers[index].keys, cache.layers[index].values)
        if self._held + kept.nbytes <= self.budget:
            steps[index] = kept
            self._held += kept.nbytes
