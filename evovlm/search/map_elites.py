"""A quality-diversity archive: keeps the best candidate in each cell of a grid of profiles. Knows only numbers.

The archive of MAP-Elites (Mouret and Clune, arXiv:1504.04909). Its content depends on what was added, not on the
order: among equals the earlier candidate is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[int, ...]
FULL = 100.0  # profiles and qualities run from 0 to 100


@dataclass(frozen=True)
class Elite:
    """The best candidate of a cell: its number, its quality, and its profile, one number per axis (all 0 to 100)."""

    candidate: int
    quality: float
    profile: tuple[float, ...]


@dataclass
class Archive:
    """A grid of cells; each axis, 0 to 100, is divided into `steps` equal parts."""

    steps: int
    elites: dict[Cell, Elite] = field(default_factory=dict)

    def cell_of(self, profile: Sequence[float]) -> Cell:
        """The cell of a profile; 100 belongs to the last cell of an axis."""
        return tuple(min(self.steps - 1, max(0, int(value * self.steps / FULL))) for value in profile)

    def add(self, elite: Elite) -> bool:
        """Keep a candidate if it is the best of its cell; returns whether it is."""
        cell = self.cell_of(elite.profile)
        holder = self.elites.get(cell)
        if holder is not None and (holder.quality, -holder.candidate) >= (elite.quality, -elite.candidate):
            return False
        self.elites[cell] = elite
        return True

    def measures(self) -> Mapping[str, float]:
        """Coverage (share of cells filled, 0 to 1), QD score (sum of qualities), best quality (Pugh et al., 2016)."""
        held = [elite.quality for elite in self.elites.values()]
        cells = self.steps ** len(next(iter(self.elites), (0,)))
        return {"coverage": len(held) / cells, "qd_score": sum(held), "best": max(held, default=0.0)}
