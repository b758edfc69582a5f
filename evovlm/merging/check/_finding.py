"""A finding: one result of checking a recipe against its models.

Knows nothing else.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """`error`: the merge is impossible; `warning`: it is possible but may suffer; `note`: information."""

    level: Level
    key: str  # the place in the recipe, or model and setting: `sources.ja.rope_theta`
    text: str


def model_key(label: str, quantity: str = "") -> str:
    """Return the key of a model's setting in findings: `base.rope_theta`, `sources.ja.rope_theta`."""
    place = label if label == "base" else f"sources.{label}"
    return f"{place}.{quantity}" if quantity else place
