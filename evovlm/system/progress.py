"""Progress reports of long-running work.

Knows no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

# Called with how much is done and how much there is: bytes, or questions. (0, 0): begun, the total is not known yet.
Progress = Callable[[int, int], None]


class Watch(Protocol):
    """Receives progress reports: a progress bar, JSON lines, or `Quiet`.

    It may have four more methods: `note(text)`, see `tell`; `part(text, done, total, steps)`, see `part_of`;
    `resumed()`, see `resumed`; and `busy(text)`, see `busy`.
    """

    def phase(self, name: str, total: int) -> None:
        """A phase of `total` steps starts."""

    def step(self, text: str, **figures: float | None) -> None:
        """One step of the phase is done."""


class Quiet:
    """A `Watch` that shows nothing."""

    def phase(self, name: str, total: int) -> None:
        """Nothing is shown."""

    def step(self, text: str, **figures: float | None) -> None:
        """Nothing is shown."""


def tell(watch: Watch, text: str) -> None:
    """Show a sentence that belongs to no step, if the watch has a method `note(text)` for it."""
    _optional(watch, "note", text)


def part_of(watch: Watch, text: str, steps: int = 1) -> Progress:
    """A function to call while a step is being made: how many of its questions are answered. `text` names the step.

    `steps`: how many steps are made together, as the candidates of a race are. A step that it is never called for had
    nothing to do: its answers were known.
    """
    return lambda done, total: _optional(watch, "part", text, done, total, steps)


def resumed(watch: Watch) -> None:
    """The steps of this phase so far were found in a log; those from now on take time."""
    _optional(watch, "resumed")


@contextmanager
def busy(watch: Watch, text: str) -> Iterator[None]:
    """Work of unknown length, such as loading a model, which the watch may show under this name."""
    show = getattr(watch, "busy", None)
    if show is None:
        yield
        return
    with show(text):
        yield


def _optional(watch: Watch, name: str, *given: Any) -> None:
    method = getattr(watch, name, None)
    if method is not None:
        method(*given)
