"""What of a candidate is still to be merged: whoever reads a layer asks for it first, and it is merged then.

Knows layers' numbers and steps of a merge; no tensors, models or recipes. Where sources are streamed to a GPU, prompts
are read by the first layers while the last ones' sources are on their way.
"""

from __future__ import annotations

from collections.abc import Iterator


class Pending:
    """Shared by the one who merges and the one who reads; nothing is pending at first."""

    def __init__(self) -> None:
        self._steps: Iterator[int] | None = None
        self._there = 0
        self.broken = False  # merging failed, so the weights are half merged until another candidate begins

    def begin(self, steps: Iterator[int]) -> None:
        """A candidate is under way. steps: each merges a little and gives the number of layers that are whole by then.

        The embeddings are merged before the first layer, all else after the last one.
        """
        self._steps, self._there, self.broken = steps, 0, False

    def need(self, layer: int) -> None:
        """Merge as far as this layer and the embeddings. Raises what merging raises; RuntimeError where it broke."""
        self._refuse_broken()
        while self._steps is not None and self._there <= layer:
            self._advance(self._steps)

    def finish(self) -> None:
        """Merge all that is left. Raises as `need` does."""
        self._refuse_broken()
        while self._steps is not None:
            self._advance(self._steps)

    def drop(self) -> bool:
        """Leave it half merged, for another one; whether there was something."""
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
            raise RuntimeError("the merge of this candidate failed half way; merge one before the next answers")
