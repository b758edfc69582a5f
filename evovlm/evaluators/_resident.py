"""The model that stays in memory and becomes one candidate after another, by a merge or by a route.

Knows assemblies, engines and mergers; no tasks, searchers or study folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from evovlm.engines.hf import Engine
from evovlm.engines.routed import RoutedEngine
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.choose import Keeping, Merger, merger_for
from evovlm.recipe.schema import Recipe
from evovlm.system.roofline import Rates


class Resident(Protocol):
    """A model in memory."""

    @property
    def engine(self) -> Engine:
        """What answers as the candidate."""

    def become(self, recipe: Recipe) -> None:
        """Turn into a candidate. Raises FloatingPointError where its weights are not finite."""

    def floors(self, rates: Rates) -> dict[str, float]:
        """Seconds that becoming a candidate cannot fall below, by phase, on a machine of these rates."""


@dataclass(frozen=True)
class MergedResident:
    """A candidate is merged into the owner's live tower."""

    engine: Engine
    merger: Merger

    def become(self, recipe: Recipe) -> None:
        """See `Resident`."""
        self.merger.merge(recipe)

    def floors(self, rates: Rates) -> dict[str, float]:
        """Bytes over the rate of copying; a merge that is hidden behind the reading of prompts has no phase."""
        return {} if self.merger.while_read else {"merge": self.merger.nbytes / rates.copy}


@dataclass(frozen=True)
class RoutedResident:
    """A candidate is an order of the sources' layers.

    Weights are computed with as the sources hold them, in float32 on a CPU: a plain checkpoint of the route rounds
    folded scales to its dtype, and its build tells by how much that moves the logits.
    """

    routed: RoutedEngine

    @property
    def engine(self) -> Engine:
        """See `Resident`."""
        return self.routed.engine

    def become(self, recipe: Recipe) -> None:
        """See `Resident`. Raises ValueError with the step's number for a route that cannot be followed."""
        self.routed.follow(recipe.route)

    def floors(self, rates: Rates) -> dict[str, float]:
        """None: laying a route moves no weights."""
        return {}


def open_resident(
    assembly: Assembly, device: str, keeping: Keeping, tell: Callable[[str], None] | None
) -> MergedResident | RoutedResident:
    """Load what a recipe's candidates are: routes where the recipe has or searches one, else merges.

    keeping: where a GPU's merge keeps its sources; tell hears where that is. Raises what engines and mergers raise.
    """
    recipe = assembly.recipe
    # On a CPU the merged weights, rounded to the recipe's dtype, are computed with in float32.
    dtype = torch.float32 if device == "cpu" else assembly.dtype
    if recipe.route or (recipe.search is not None and recipe.search.route is not None):
        folders = {name: model.folder for name, model in assembly.sources.items()}
        # Recalled steps take no time, so latency is measured without them.
        remember = not recipe.timed
        return RoutedResident(
            RoutedEngine.load_pool(assembly.owner.label, folders, device=device, dtype=dtype, remember=remember)
        )
    engine = Engine.load(assembly.owner.folder, device=device, dtype=dtype)
    # What is merged while prompts are read would count as latency.
    pending = None if recipe.timed else engine.pending
    return MergedResident(engine, merger_for(assembly, engine.tower, keeping, tell, pending))
