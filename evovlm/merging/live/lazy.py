"""Lazy merge: a layer is merged when the engine first needs it.

Knows layer numbers and steps of a merge; no tensors, models or recipes. If sources are streamed to a GPU, the first
layers read prompts while the sources of the last layers are still being transferred.
"""

from __future__ import annotations

from collections.abc import Iterator


class Pending:
    """The unfinished part of a merge, shared by merger and engine; nothing is pending at first."""

    def __init__(self) -> None:
        self._steps: Iterator[int] | None = None
        self._there = 0
        self.broken = False  # merging failed: the weights are half merged until the next candidate begins

    def begin(self, steps: Iterator[int]) -> None:
        """Start a candidate. steps: each step merges a part and yields the number of layers that are then complete.

        The embeddings are merged before the first layer, everything else after the last one.
        """
        self._steps, self._there, self.broken = steps, 0, False

    def need(self, layer: int) -> None:
        """Merge the embeddings and all layers up to `layer`.

        Raises the merge's own errors, and RuntimeError if the merge of this candidate failed earlier.
        """
        self._refuse_broken()
        while self._steps is not None and self._there <= layer:
            self._advance(self._steps)

    def finish(self) -> None:
        """Merge everything that is left. Raises the same errors as `need`."""
        self._refuse_broken()
        while self._steps is not None:
            self._advance(self._steps)

    def drop(self) -> bool:
        """Abandon the current candidate, half merged or broken; returns whether there was one."""
        dropped = self._steps is not None or self.broken
        self._steps, self.broken = None, False
        return dropped

    def _advance(self, steps: Iterator[int]) -> None:
        self._steps, self.broken = None, True  # unless this step succeeds
        there = next(steps, None)
        self.broken = False
        if there is not None:
            self._steps, self._there = steps, there

    def _refuse_broken(self) -> None:
        if self.broken:
            raise RuntimeError("the merge of this candidate failed half way; merge another before asking for answers")
