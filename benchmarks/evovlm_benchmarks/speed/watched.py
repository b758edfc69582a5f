"""Progress of long loops. Knows only the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from evovlm.cli.progress import shown

Step = TypeVar("Step")


def watched(steps: Iterable[Step], what: str, total: int) -> Iterator[Step]:
    """Yield the steps while standard error shows progress and the time left."""
    with shown() as watch:
        watch.phase(what, total)
        for step in steps:
            yield step
            watch.step("")
