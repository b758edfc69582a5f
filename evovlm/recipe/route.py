"""A route: the order in which layers of the sources are applied, and the scale of the residual stream before each.

Knows numbers and names; no models, no search. A route is the result of evolution in data-flow space
(arXiv:2403.13187, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from evovlm.recipe._frozen import Frozen
from evovlm.recipe.limits import MOST_LAYERS, MOST_SCALE

# Every step has its own slot in the KV cache. The paper's longest route has 192 steps.
MAX_STEPS = 512


class Step(Frozen):
    """One pass through one layer. `scale` multiplies the residual stream before the layer; finite and not 0."""

    source: str
    layer: Annotated[int, Field(ge=0, le=MOST_LAYERS)]
    scale: float = 1.0

    @field_validator("scale")
    @classmethod
    def _usable(cls, scale: float) -> float:
        if not math.isfinite(scale) or scale == 0:
            raise ValueError(f"the scale {scale} would destroy the residual stream; give a finite number other than 0")
        return scale


Route = tuple[Step, ...]


def refuse_long(route: Route) -> Route:
    """Return the route unchanged. Raises ValueError, which names the first step too many, if it exceeds the cache."""
    if len(route) > MAX_STEPS:
        step = route[MAX_STEPS]
        raise ValueError(
            f"step {MAX_STEPS} ({step.source} {step.layer}) is beyond the KV cache, which holds {MAX_STEPS} steps;"
            " shorten the route"
        )
    return route


def refuse_scales(route: Route) -> Route:
    """Return the route unchanged. Raises ValueError, which names the step, if its scales overflow or vanish in all."""
    for step, total in enumerate(cumulative_scales(route)):
        if not 1 / MOST_SCALE <= abs(total) <= MOST_SCALE:
            raise ValueError(
                f"step {step}: the scales up to here multiply to {total:g}; keep them between {1 / MOST_SCALE:g} and"
                f" {MOST_SCALE:g} in all"
            )
    return route


def cumulative_scales(route: Sequence[Step]) -> list[float]:
    """The total scale of the residual stream on entering each step: one double-precision number per step."""
    products: list[float] = []
    for step in route:
        products.append(step.scale * (products[-1] if products else 1.0))
    return products


def identity(source: str, layers: int) -> Route:
    """The route through all layers of one source, in order and unscaled."""
    return tuple(Step(source=source, layer=layer) for layer in range(layers))


def runs(route: Sequence[Step]) -> list[tuple[str, int, int]]:
    """The route as runs of consecutive layers (source, first layer, last layer), for display."""
    found: list[tuple[str, int, int]] = []
    for step in route:
        if found and found[-1][0] == step.source and found[-1][2] == step.layer - 1:
            found[-1] = (step.source, found[-1][1], step.layer)
        else:
            found.append((step.source, step.layer, step.layer))
    return found


def in_words(route: Sequence[Step]) -> str:
    """The route as text, such as `math 0-3, ja 2, math 4-7`; empty for an empty route."""
    return ", ".join(f"{s} {a}" if a == b else f"{s} {a}-{b}" for s, a, b in runs(route))
