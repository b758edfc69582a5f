"""Progress reports of long-running work.

Knows no terminal.
"""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Receives progress reports: a progress bar, JSON lines, or `Quiet`."""

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
