"""Progress reports of long-running work.

Knows no terminal.
"""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Receives progress reports: a progress bar, JSON lines, or `Quiet`. May also have `note(text)`; see `tell`."""

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

    def note(self, text: str) -> None:
        """Nothing is shown."""


def tell(watch: Watch, text: str) -> None:
    """Show a sentence that belongs to no step, if the watch has a method `note(text)` for it."""
    note = getattr(watch, "note", None)
    if note is not None:
        note(text)
