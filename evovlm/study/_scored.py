"""What a study needs of an evaluation. Knows no evaluators."""

from __future__ import annotations

from typing import Protocol


class Scored(Protocol):
    """What the study needs of an evaluation."""

    @property
    def score(self) -> float:
        """The mean, higher is better."""

    @property
    def spread(self) -> float:
        """Its standard error."""

    @property
    def exact_share(self) -> float:
        """The share of exact answers."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""

    @property
    def values(self) -> tuple[float, ...]:
        """All objectives, the score first; empty where the score is the only one."""

    @property
    def scores(self) -> tuple[float, ...]:
        """A score an item."""

    @property
    def answers(self) -> tuple[str, ...]:
        """An answer an item."""
