"""Audits of cheap scores: whether they rank a generation's candidates well enough to choose by. Knows only numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Three of four pairs of candidates are in the same order.
LEAST_TAU = 0.5
# The largest probability with which unrelated scores may agree as well. It guards small generations, whose tau is high
# by chance: by the exact distribution 4 candidates need a tau of 1, 6 of 0.73, 8 of 0.57; from 10 on LEAST_TAU decides.
LEVEL = 0.05
TIE = 1e-9


@dataclass(frozen=True)
class Audit:
    """How cheap scores ranked candidates that also have full ones.

    tau: Kendall's tau-b of both. p_value: one-sided. place: of the best candidate in full, ranked by cheap scores, from
    1. promoted: how many the cheap scores would have promoted.
    """

    tau: float
    p_value: float
    candidates: int
    place: int
    promoted: int

    @property
    def good(self) -> bool:
        """Whether cheap scores may choose who is asked in full.

        They have to agree by more than chance, on most pairs, and the best candidate has to be among the promoted.
        """
        return self.tau >= LEAST_TAU and self.p_value <= LEVEL and self.place <= self.promoted

    @property
    def in_words(self) -> str:
        """The figures, and what each has to be."""
        if self.candidates == 0:
            return "no candidate has both scores"
        return (
            f"Kendall's tau of {self.candidates} candidates {self.tau:.2f} (at least {LEAST_TAU:.2f}), chance"
            f" {self.p_value:.3f} (at most {LEVEL:.2f}), the best one is number {self.place} by cheap answers (at most"
            f" {self.promoted})"
        )


def audited(cheap: Sequence[float], full: Sequence[float], promoted: int) -> Audit:
    """Compare cheap and full scores of the same candidates, of which `promoted` would be asked in full."""
    if not full:
        return Audit(0.0, 1.0, 0, 0, promoted)
    tau, p_value = 0.0, 1.0
    if min(len(set(cheap)), len(set(full))) > 1:  # else all are tied
        from scipy import stats  # late: it takes three seconds to load

        # The exact distribution without ties, else a normal one that counts them (Kendall, 1945).
        found = stats.kendalltau(cheap, full, alternative="greater")
        tau, p_value = float(found.statistic), float(found.pvalue)
    # Of several that are best in full, it is enough if one is promoted.
    best = max(one for one, score in zip(cheap, full, strict=True) if score >= max(full) - TIE)
    place = 1 + sum(one > best + TIE for one in cheap)
    return Audit(tau, p_value, len(full), place, promoted)
