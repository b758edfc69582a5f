"""What a plan for a zoo is: a shape, stages, and how its world is drawn.

Knows no world and no size of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evovlm.models.layouts import OUTPUT_HEAD
from evovlm.recipe.layer_groups import layer_of
from evovlm.zoo._corpus import Task
from evovlm.zoo._fit import Schedule
from evovlm.zoo._network import Shape
from evovlm.zoo._pools import Render

Mixture = Mapping[Task, float]


def tower_only(name: str) -> bool:
    """Whether a tensor belongs to the language tower."""
    return name.startswith(("model.", "lm_head."))


def eyes_only(name: str) -> float:
    """Rates that freeze the language tower."""
    return 0.0 if tower_only(name) else 1.0


@dataclass(frozen=True)
class OverTuned:
    """Rates that tune some layers (and the output head) `factor` times as fast as the rest.

    Real tunes have parts that harm in company; these give the zoo's theirs, in known places.
    """

    factor: float
    layers: tuple[int, ...]
    head: bool

    def __call__(self, name: str) -> float:
        """The factor of one tensor's learning rate."""
        return self.factor if layer_of(name) in self.layers or (self.head and name == OUTPUT_HEAD) else 1.0


@dataclass(frozen=True)
class Stage:
    """One training: what to learn, from how many examples, how long and how fast."""

    mixture: Callable[[], Mixture]
    examples: int
    schedule: Schedule


@dataclass(frozen=True)
class Plan:
    """A zoo's recipe: the models' shape, every stage in order of descent, and how a scene becomes an image."""

    shape: Shape  # the tokenizer says how large the vocabulary is
    stages: Mapping[str, Stage]
    render: Render
