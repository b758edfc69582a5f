"""A finding: one thing that the check has to say about a recipe and its models.

Knows nothing else.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """`error`: the merge cannot be made; `warning`: it can, and this may harm it; `note`: worth knowing."""

    level: Level
    key: str  # the place in the recipe, or model and quantity: `sources.ja.rope_theta`
    text: str


def model_key(label: str, quantity: str = "") -> str:
    """How findings name a model's quantity: `base.rope_theta`, `sources.ja.rope_theta`."""
    place = label if label == "base" else f"sources.{label}"
    return f"{place}.{quantity}" if quantity else place
