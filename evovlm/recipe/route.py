"""A route: which layer of which source comes after which, and by what the stream is scaled on the way.

Knows numbers and names; no models, no search. A route is what evolution in data-flow space finds
(arXiv:2403.13187, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from evovlm.recipe._frozen import Frozen

# Every step has a slot of its own in the KV cache. The paper's longest route has 192 steps.
MAX_STEPS = 512


class Step(Frozen):
    """One pass through one layer. `scale` multiplies the stream on its way into the layer."""

    source: str
    layer: Annotated[int, Field(ge=0)]
    scale: float = 1.0

    @field_validator("scale")
    @classmethod
    def _usable(cls, scale: float) -> float:
        if not math.isfinite(scale) or scale == 0:
            raise ValueError(f"the scale {scale} loses the stream; give a finite number other than 0")
        return scale


Route = tuple[Step, ...]


def refuse_long(route: Route) -> Route:
    """The route as it is. Raises ValueError with the number of the first step that has no slot in the cache."""
    if len(route) > MAX_STEPS:
        step = route[MAX_STEPS]
        raise ValueError(
            f"step {MAX_STEPS} ({step.source} {step.layer}) lies beyond the KV cache, which holds {MAX_STEPS} steps;"
            " shorten the cycle"
        )
    return route


def cumulative_scales(route: Sequence[Step]) -> list[float]:
    """What the stream has been multiplied by on entering each step: one number a step, in double precision."""
    products: list[float] = []
    for step in route:
        products.append(step.scale * (products[-1] if products else 1.0))
    return products


def identity(source: str, layers: int) -> Route:
    """The route that is the source itself."""
    return tuple(Step(source=source, layer=layer) for layer in range(layers))


def runs(route: Sequence[Step]) -> list[tuple[str, int, int]]:
    """The route as unbroken runs (source, first layer, last layer), for people to read."""
    found: list[tuple[str, int, int]] = []
    for step in route:
        if found and found[-1][0] == step.source and found[-1][2] == step.layer - 1:
            found[-1] = (step.source, found[-1][1], step.layer)
        else:
            found.append((step.source, step.layer, step.layer))
    return found


def in_words(route: Sequence[Step]) -> str:
    """Such as `math 0-3, ja 2, math 4-7`; nothing for an empty route."""
    return ", ".join(f"{s} {a}" if a == b else f"{s} {a}-{b}" for s, a, b in runs(route))
