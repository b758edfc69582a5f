"""A gene: one number of the unit interval, and the range of values that it stands for.

Knows the recipe's bounds; no models and no optimisers.
"""

from __future__ import annotations

from dataclasses import dataclass

from evovlm.recipe.schema import Bounds


@dataclass(frozen=True)
class Gene:
    """One number that evolution may choose, such as a source's weight or density in one layer group."""

    source: str
    parameter: str  # weight, density; in data-flow space use, scale, theta
    group: str
    bounds: Bounds

    @property
    def name(self) -> str:
        """As it stands in the study's header: `ja.weight.layers 0-3`."""
        return f"{self.source}.{self.parameter}.{self.group}"

    def value(self, point: float) -> float:
        """The parameter's value at a point of the unit interval."""
        return self.bounds.low + (self.bounds.high - self.bounds.low) * point

    def point(self, value: float) -> float:
        """The inverse of `value`, clipped to the unit interval."""
        return min(1.0, max(0.0, (value - self.bounds.low) / (self.bounds.high - self.bounds.low)))
