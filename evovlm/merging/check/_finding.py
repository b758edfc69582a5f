"""A finding: one result of checking a recipe against its models.

Knows a model's place in the recipe; checks nothing.
"""

from dataclasses import dataclass
from typing import Literal

from evovlm.models.open_model import OpenModel

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """`error`: the merge is impossible; `warning`: it is possible but may suffer; `note`: information."""

    level: Level
    key: str  # the place in the recipe, or model and setting: `sources.ja.rope_theta`
    text: str


def model_key(model: OpenModel, quantity: str = "") -> str:
    """Return the key of a model's setting in findings: `base.rope_theta`, `sources.ja.rope_theta`."""
    return f"{model.place}.{quantity}" if quantity else model.place
