"""The model that stays in memory and is turned into one candidate after another, by a merge or by a route.

Knows assemblies, engines and mergers; no tasks, searchers or study folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from evovlm.engines.chat import set_template
from evovlm.engines.hf import Engine
from evovlm.engines.routed import RoutedEngine
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.choose import Keeping, Merger, merger_for
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from evovlm.system.roofline import Rates


class Resident(Protocol):
    """A model in memory."""

    @property
    def engine(self) -> Engine:
        """The engine that answers as the current candidate."""

    def become(self, recipe: Recipe) -> None:
        """Turn into a candidate. Raises FloatingPointError if its weights are not finite."""

    def why_not_as_is(self, model: OpenModel) -> str | None:
        """Return why it cannot become an unmerged model; None if it can."""

    def become_model(self, model: OpenModel) -> None:
        """Turn into an unmerged model, if it can."""

    def floors(self, rates: Rates) -> dict[str, float]:
        """Return lower bounds, in seconds by phase, for becoming a candidate on a machine with these rates."""


@dataclass(frozen=True)
class MergedResident:
    """A resident model whose candidates are merged into the owner's live tower."""

    engine: Engine
    merger: Merger
    assembly: Assembly

    def become(self, recipe: Recipe) -> None:
        """See `Resident`."""
        self.merger.merge(recipe)

    def why_not_as_is(self, model: OpenModel) -> str | None:
        """See `Resident`."""
        return self.assembly.why_not_as_is(model)

    def become_model(self, model: OpenModel) -> None:
        """See `Resident`."""
        self.merger.become_model(model.label)

    def floors(self, rates: Rates) -> dict[str, float]:
        """See `Resident`: bytes moved over the copy rate. A merge overlapped with prefill has no phase of its own."""
        return {} if self.merger.while_read else {"merge": self.merger.nbytes / rates.copy}


@dataclass(frozen=True)
class RoutedResident:
    """A resident model whose candidates are orders of the sources' layers.

    It computes with the sources' own weights, in float32 on a CPU. A plain checkpoint of the route instead rounds
    weights with folded scales to its dtype; its build reports how much that changes the logits.
    """

    routed: RoutedEngine

    @property
    def engine(self) -> Engine:
        """See `Resident`."""
        return self.routed.engine

    def become(self, recipe: Recipe) -> None:
        """See `Resident`. Raises ValueError, naming the step, for a route that is impossible."""
        self.routed.follow(recipe.route)

    def why_not_as_is(self, model: OpenModel) -> str | None:
        """See `Resident`."""
        return "the search stacks layers"

    def become_model(self, model: OpenModel) -> None:
        """See `Resident`: it never can."""
        raise AssertionError(self.why_not_as_is(model))

    def floors(self, rates: Rates) -> dict[str, float]:
        """See `Resident`: empty, because changing the route moves no weights."""
        return {}


def computing_dtype(assembly: Assembly, device: str) -> torch.dtype:
    """What candidates are computed in: on a CPU float32, though merged weights are rounded to the recipe's dtype."""
    return torch.float32 if device == "cpu" else assembly.dtype


def open_resident(
    assembly: Assembly, device: str, keeping: Keeping, tell: Callable[[str], None] | None, *, self_check: bool = True
) -> MergedResident | RoutedResident:
    """Load the resident model for a recipe's candidates: routed if the recipe has or searches a route, else merged.

    keeping: where merges on a GPU keep the sources; `tell` is called with a sentence about it. self_check: see
    `Engine.check`. Raises what engines and mergers raise.
    """
    recipe = assembly.recipe
    if recipe.vision == "merged":
        raise RecipeError(
            "vision: a merged vision part is built by `evovlm merge` only; merge to a folder, and evaluate that"
        )
    dtype = computing_dtype(assembly, device)
    if recipe.route or (recipe.search is not None and recipe.search.route is not None):
        folders = {name: model.folder for name, model in assembly.sources.items()}
        # Reused steps take no time, so reuse is off when latency is measured.
        remember = not recipe.timed
        routed = RoutedEngine.load_pool(
            assembly.owner.label, folders, device=device, dtype=dtype, remember=remember, self_check=self_check
        )
        _set_template(routed.engine, recipe)
        return RoutedResident(routed)
    engine = Engine.load(assembly.owner.folder, device=device, dtype=dtype, self_check=self_check)
    _set_template(engine, recipe)
    # An overlapped merge would count as latency, so it is off when latency is measured.
    pending = None if recipe.timed else engine.pending
    return MergedResident(engine, merger_for(assembly, engine.tower, keeping, tell, pending), assembly)


def _set_template(engine: Engine, recipe: Recipe) -> None:
    """Ask with the recipe's chat template, as a checkpoint built from it will be."""
    if recipe.chat_template is not None:
        set_template(engine.processor, recipe.chat_template)
