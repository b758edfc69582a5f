"""What a study needs of an evaluation, and of a raced one. Knows no evaluators."""

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


class Raced(Scored, Protocol):
    """What the study needs of a raced candidate's evaluation."""

    @property
    def seen(self) -> tuple[int, ...]:
        """Which of the study's items it was asked."""

    @property
    def cheap(self) -> float | None:
        """Its score at a lower fidelity."""

    @property
    def promoted(self) -> bool:
        """Whether it was asked in full."""
