"""The plan of a zoo: the models' shape, the training stages, and how scenes are drawn.

Knows no particular world and no particular size.
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
    """Learning-rate factors that freeze the language tower: 0 for its tensors, else 1."""
    return 0.0 if tower_only(name) else 1.0


@dataclass(frozen=True)
class OverTuned:
    """Learning-rate factors that train some layers (and the output head) `factor` times as fast as the rest.

    Real fine-tunes have parts that do harm when merged; this gives the zoo such parts, in known places.
    """

    factor: float
    layers: tuple[int, ...]
    head: bool

    def __call__(self, name: str) -> float:
        """The factor of one tensor's learning rate."""
        return self.factor if layer_of(name) in self.layers or (self.head and name == OUTPUT_HEAD) else 1.0


@dataclass(frozen=True)
class Stage:
    """One training stage: task mixture, number of examples, and schedule."""

    mixture: Callable[[], Mixture]
    examples: int
    schedule: Schedule


@dataclass(frozen=True)
class Plan:
    """A zoo's recipe: the models' shape, all stages in training order, and how a scene becomes an image."""

    shape: Shape  # the vocabulary size is set later, from the tokenizer
    stages: Mapping[str, Stage]
    render: Render
