"""A quality-diversity archive: of all candidates the best in each cell of a grid of profiles. Knows numbers alone.

The archive of MAP-Elites (Mouret and Clune, arXiv:1504.04909). What it holds depends on what was added, not on the
order: of equals the earlier candidate stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[int, ...]
FULL = 100.0  # profiles and qualities run from 0 to 100


@dataclass(frozen=True)
class Elite:
    """The best candidate of a cell: its number, its quality, and what it can do, a number an axis."""

    candidate: int
    quality: float
    profile: tuple[float, ...]


@dataclass
class Archive:
    """Cells of `steps` equal parts of 0 to 100 on each axis."""

    steps: int
    elites: dict[Cell, Elite] = field(default_factory=dict)

    def cell_of(self, profile: Sequence[float]) -> Cell:
        """Where a profile belongs; 100 belongs to the last cell."""
        return tuple(min(self.steps - 1, max(0, int(value * self.steps / FULL))) for value in profile)

    def add(self, elite: Elite) -> bool:
        """Keep a candidate where it is the best of its cell; says whether it is."""
        cell = self.cell_of(elite.profile)
        holder = self.elites.get(cell)
        if holder is not None and (holder.quality, -holder.candidate) >= (elite.quality, -elite.candidate):
            return False
        self.elites[cell] = elite
        return True

    def measures(self) -> Mapping[str, float]:
        """Coverage (share of cells held), QD score (sum of qualities), and the best quality (Pugh et al., 2016)."""
        held = [elite.quality for elite in self.elites.values()]
        cells = self.steps ** len(next(iter(self.elites), (0,)))
        return {"coverage": len(held) / cells, "qd_score": sum(held), "best": max(held, default=0.0)}
