"""Progress: who looks on while something takes its time.

Knows no terminal.
"""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Who looks on: a progress bar, JSON lines, or nobody."""

    def phase(self, name: str, total: int) -> None:
        """A phase of `total` steps begins."""

    def step(self, text: str, **figures: float | None) -> None:
        """One step of the phase is done."""


class Quiet:
    """A `Watch` that shows nothing."""

    def phase(self, name: str, total: int) -> None:
        """Nothing is shown."""

    def step(self, text: str, **figures: float | None) -> None:
        """Nothing is shown."""
