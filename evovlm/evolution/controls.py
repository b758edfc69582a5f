"""The rows of the held-out table: the sources, the winner, and the controls that it must beat.

Knows an evaluator and recipes; no searchers, and not how the table is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evovlm.evaluators.local import Evaluation, LocalEvaluator
from evovlm.evaluators.single_model import answer_as_is
from evovlm.evolution.held_out import Contestant, Progress
from evovlm.merging.check.route import depth_of
from evovlm.models.open_model import OpenModel
from evovlm.recipe.route import Route, identity
from evovlm.recipe.schema import Recipe
from evovlm.search.space.parameters import uniform
from evovlm.tasks.item_sets import ItemSet

SWEEP = tuple(step / 10 for step in range(11))


def contestants(
    evaluator: LocalEvaluator,
    winner: Recipe,
    test: ItemSet,
    choice: ItemSet,
    progress: Progress,
) -> list[Contestant]:
    """All rows for a winner. Sweeps choose their best point on the `choice` items, never on the test."""
    sources = [_source(evaluator, model, test) for model in _models(evaluator)]
    controls = _controls(evaluator, winner, test, choice, progress)
    evolved = Contestant("evolved", "evolved", lambda: evaluator.evaluate(winner, test), {"digest": winner.digest()})
    return [*sources, evolved, *controls]


def searched(evaluator: LocalEvaluator, name: str, winner: Recipe, test: ItemSet, *, trials: int) -> Contestant:
    """The row of another search's winner, a control of the evolved one."""
    detail = {"digest": winner.digest(), "trials": trials}
    return Contestant(name, "controls", lambda: evaluator.evaluate(winner, test), detail)


def shuffled_images(items: ItemSet) -> ItemSet:
    """Each question with another question's image: what an answer owes to seeing is lost."""
    half = len(items) // 2
    moved = [*items[half:], *items[:half]]
    return items.of(
        replace(item, id=f"{item.id}#shuffled", image=other.image) for item, other in zip(items, moved, strict=True)
    )


def _models(evaluator: LocalEvaluator) -> list[OpenModel]:
    base = evaluator.assembly.base
    return [*([base] if base is not None else []), *evaluator.assembly.sources.values()]


def _source(evaluator: LocalEvaluator, model: OpenModel, test: ItemSet) -> Contestant:
    """A source as it is: the owner with its eyes, a language model without."""
    engine = evaluator.engine

    def answer() -> Evaluation:
        return answer_as_is(
            model,
            test,
            batch=evaluator.batch,
            device=engine.device,
            dtype=engine.dtype,
            on_halved=evaluator.on_halved,
        )

    return Contestant(model.label, "sources", answer, {"model": model.folder.name})


def _controls(
    evaluator: LocalEvaluator,
    winner: Recipe,
    test: ItemSet,
    choice: ItemSet,
    progress: Progress,
) -> list[Contestant]:
    if winner.route:
        return _route_controls(evaluator, winner, test)
    names = winner.source_names
    mean = _linear(winner, {name: 1 / len(names) for name in names})

    def row(name: str, recipe: Recipe, detail: Mapping[str, Any]) -> Contestant:
        return Contestant(name, "controls", lambda: evaluator.evaluate(recipe, test), detail)

    rows = [row("average", mean, {})]
    if winner.kind == "vlm":
        blind = [name for name in names if name != winner.owner]
        plugged = {name: _linear(winner, {other: float(other == name) for other in names}) for name in blind}
        best = _best_on(evaluator, plugged, choice, progress, "plugged in")
        rows.append(row("plugged_in", plugged[best], {"source": best}))
    if winner.base is not None:
        sums = {f"{w:.1f}": _vectors(winner, dict.fromkeys(names, w)) for w in SWEEP}
        best = _best_on(evaluator, sums, choice, progress, "sweep")
        rows.append(row("sweep", sums[best], {"weight": float(best), "of": "one weight for all task vectors"}))
    if winner.base is not None and winner.kind == "llm":
        single = {
            f"{name}:{w:.1f}": _vectors(winner, {other: w * (other == name) for other in names})
            for name in names
            for w in SWEEP
        }
        best = _best_on(evaluator, single, choice, progress, "single vector")
        rows.append(row("single_vector", single[best], {"source_and_weight": best}))
    if winner.kind == "vlm" and len(names) == 2:
        first, second = names
        mixes = {f"{w:.1f}": _linear(winner, {first: 1 - w, second: w}) for w in SWEEP}
        best = _best_on(evaluator, mixes, choice, progress, "interpolation")
        rows.append(row("interpolation", mixes[best], {"weight": float(best), "of": second}))
    if winner.kind == "vlm":
        moved = shuffled_images(test)
        detail = {"digest": winner.digest()}
        rows.append(Contestant("shuffled_images", "controls", lambda: evaluator.evaluate(winner, moved), detail))
    return rows


def _route_controls(evaluator: LocalEvaluator, winner: Recipe, test: ItemSet) -> list[Contestant]:
    """The route without its scales; each other source's layers behind the owner's embeddings; images shuffled."""

    def row(name: str, route: Route, items: ItemSet, detail: Mapping[str, Any]) -> Contestant:
        recipe = winner.model_copy(update={"route": route})
        return Contestant(name, "controls", lambda: evaluator.evaluate(recipe, items), detail)

    rows = []
    if any(step.scale != 1.0 for step in winner.route):
        plain = tuple(step.model_copy(update={"scale": 1.0}) for step in winner.route)
        rows.append(row("without_scales", plain, test, {"digest": winner.digest()}))
    for name, model in evaluator.assembly.sources.items():
        if name != winner.owner:
            rows.append(row(f"layers_of_{name}", identity(name, depth_of(model)), test, {}))
    if winner.kind == "vlm":
        rows.append(row("shuffled_images", winner.route, shuffled_images(test), {"digest": winner.digest()}))
    return rows


def _best_on(
    evaluator: LocalEvaluator,
    recipes: Mapping[str, Recipe],
    items: ItemSet,
    progress: Progress,
    label: str,
) -> str:
    """The name of the recipe that scores best; a candidate that fails scores nothing."""
    if len(recipes) == 1:
        return next(iter(recipes))
    scores = {}
    for name, recipe in recipes.items():
        progress(f"{label} {name}")
        try:
            scores[name] = evaluator.evaluate(recipe, items).score
        except (ArithmeticError, ValueError):
            scores[name] = float("-inf")
    return max(scores, key=lambda name: scores[name])


def _linear(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).model_copy(update={"method": "linear", "groups": "whole"})


def _vectors(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).model_copy(update={"method": "task_arithmetic", "groups": "whole"})
