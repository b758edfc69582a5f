"""A gene: one number in the unit interval, and the range of values that it is mapped to.

Knows the recipe's bounds; no models and no optimisers.
"""

from __future__ import annotations

from dataclasses import dataclass

from evovlm.recipe.search_settings import Bounds


@dataclass(frozen=True)
class Gene:
    """One number that the search chooses: a source's weight or density in one layer group, or an option of the method.

    An option's gene has `options` as its source and is for the whole merge: `options.lambda.whole`.
    """

    source: str
    parameter: str  # `weight`, `density` or the option's key; in data-flow space `use`, `scale` or `theta`
    group: str
    bounds: Bounds

    @property
    def name(self) -> str:
        """The name in the study's header, such as `ja.weight.layers 0-3`."""
        return f"{self.source}.{self.parameter}.{self.group}"

    def value(self, point: float) -> float:
        """The parameter's value at a point in the unit interval; points outside, by rounding, count as its ends."""
        return self.bounds.low + (self.bounds.high - self.bounds.low) * min(1.0, max(0.0, point))

    def point(self, value: float) -> float:
        """The inverse of `value`: the point of a parameter's value, clipped to the unit interval."""
        return min(1.0, max(0.0, (value - self.bounds.low) / (self.bounds.high - self.bounds.low)))
