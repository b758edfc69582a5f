"""When the layers of a live model hold a candidate that is still being merged: who reads them waits layer by layer.

Knows layers' numbers, events and one check; no tensors, models or recipes. Where sources are streamed to a GPU, reading
prompts begins with the first layers while the last are on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch


class Arrivals:
    """Shared by the one who merges and the one who reads; nothing is under way at first.

    Layers are announced in order, behind the embeddings, and before the last norm and the head.
    """

    def __init__(self) -> None:
        self._events: dict[int, torch.cuda.Event | None] = {}
        self._last: torch.cuda.Event | None = None
        self._check: Callable[[], None] | None = None

    def begin(self, check: Callable[[], None]) -> None:
        """A candidate is under way. check: waits for all of it, and raises where it is not sound."""
        self._events.clear()
        self._last, self._check = None, check

    def announce(self, layers: Iterable[int], event: torch.cuda.Event | None) -> None:
        """These layers, and all that was announced before, are there once the event is over; None: they are there."""
        self._last = event
        for layer in layers:
            self._events[layer] = event

    def wait(self, layer: int) -> None:
        """Make the current stream wait for a layer and for all before it."""
        if self._check is None:
            return
        event = self._events.get(layer, self._last)
        if event is not None:
            torch.cuda.current_stream().wait_event(event)

    def check(self) -> None:
        """Wait for the whole candidate. Raises what the merge would have raised, once."""
        check, self._check = self._check, None
        if check is not None:
            check()
