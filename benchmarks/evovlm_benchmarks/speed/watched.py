"""A progress bar for long loops. Knows only the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from evovlm.cli.console import bars

Step = TypeVar("Step")


def watched(steps: Iterable[Step], what: str, total: int) -> Iterator[Step]:
    """Yield the steps while a bar on standard error shows progress and the time left."""
    with bars() as progress:
        task = progress.add_task(what, total=total, figures="")
        for step in steps:
            yield step
            progress.advance(task)
