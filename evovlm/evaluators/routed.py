"""The evaluator of routes: lay the candidate's route through the pool of layers, let it answer, score the answers.

Knows one assembly and one routed engine; no searchers and no study folders.
"""

from __future__ import annotations

import torch

from evovlm.engines.hf import Engine
from evovlm.engines.routed import RoutedEngine
from evovlm.evaluators.local import LocalEvaluator
from evovlm.recipe.schema import Recipe


class RouteEvaluator(LocalEvaluator):
    """All sources' layers on one device; a candidate is an order of them.

    Weights are computed with as the sources hold them, in float32 on a CPU: a plain checkpoint of the route rounds
    folded scales to its dtype, and its build tells by how much that moves the logits.
    """

    def _load(self, device: str, dtype: torch.dtype) -> Engine:
        folders = {name: model.folder for name, model in self.assembly.sources.items()}
        # Recalled steps take no time, so latency is measured without them.
        remember = not self.assembly.recipe.timed
        self._routed = RoutedEngine.load_pool(
            self.assembly.owner.label, folders, device=device, dtype=dtype, remember=remember
        )
        return self._routed

    def _make(self, recipe: Recipe) -> None:
        self._routed.follow(recipe.route)


def evaluator_for(recipe: Recipe) -> type[LocalEvaluator]:
    """The kind of evaluator that a recipe's candidates need."""
    routed = recipe.route or (recipe.search is not None and recipe.search.route is not None)
    return RouteEvaluator if routed else LocalEvaluator
