"""The protocol of an evaluation, as a study needs it. Knows no evaluators."""

from __future__ import annotations

from typing import Protocol


class Scored(Protocol):
    """An evaluation, as far as the study needs it."""

    @property
    def score(self) -> float:
        """Mean score over items; higher is better."""

    @property
    def exact_share(self) -> float:
        """Share of exact answers, 0 to 1."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per phase."""

    @property
    def values(self) -> tuple[float, ...]:
        """All objectives, the score first; empty if the score is the only one."""

    @property
    def scores(self) -> tuple[float, ...]:
        """One score per item."""

    @property
    def answers(self) -> tuple[str, ...]:
        """One answer per item."""
