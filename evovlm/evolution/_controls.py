"""The rows of the held-out table: the sources, the winner, and the controls that it must beat.

Knows an evaluator and recipes; no searchers, and not how the table is computed. A new control is one row of `CONTROLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evolution._held_out import Contestant, LeftOut, LeftOutNow, failed
from evovlm.evolution._picking import NotPicked, Scorer, best_of
from evovlm.evolution._unmerged import Sources, prior_row, restyled_row, restyles
from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.check.route import depth_of
from evovlm.merging.prepare import SmallDisk, prepare_vectors
from evovlm.methods import METHODS
from evovlm.recipe.route import identity
from evovlm.recipe.schema import Options, Recipe
from evovlm.search.space.parameters import uniform
from evovlm.system.faults import row_failure
from evovlm.system.progress import Watch
from evovlm.system.units import size
from evovlm.tasks.item_sets import ItemSet, ItemSets

TSV_ROW = "tsv"  # the control whose method prepares task vectors
SWEEP = tuple(step / 10 for step in range(11))
TSV = (0.4, 0.7, 1.0, 1.3, 1.6)  # around the paper's 1

Recipes = Mapping[str, Recipe]  # by label: a weight or a source's name


def shuffled_images(items: ItemSet) -> ItemSet:
    """Each question with another question's image: shows how much of a score depends on seeing the right image."""
    half = len(items) // 2
    moved = [*items[half:], *items[:half]]
    return items.of(
        replace(item, id=f"{item.id}#shuffled", image=other.image) for item, other in zip(items, moved, strict=True)
    )


def _unchanged(items: ItemSet) -> ItemSet:
    return items


def _nothing(winner: Recipe, best: str) -> dict[str, Any]:
    return {}


def _no_reason(winner: Recipe) -> str:
    return ""


def _digest(winner: Recipe, best: str) -> dict[str, Any]:
    return {"digest": winner.digest()}


@dataclass(frozen=True)
class Control:
    """A row of the table that the winner must beat.

    `applies`: whether a winner gets this row. `candidates`: recipes by label; the best one on the choice items becomes
    the row. With `all_rows`, each becomes a row, named by `name` with the label in place of {}.
    `detail`: extra fields of the row about the chosen recipe; they also identify its stored answers. `progress`: the
    label shown while the best candidate is picked. `asked`: maps the test items to the items that the row is asked.
    `why_not`: what the row says in place of a score if the control does not apply; empty: then there is no row.
    """

    name: str
    applies: Callable[[Recipe], bool]
    candidates: Callable[[Recipe, Assembly], Recipes]
    detail: Callable[[Recipe, str], dict[str, Any]] = _nothing
    progress: str = ""
    all_rows: bool = False
    asked: Callable[[ItemSet], ItemSet] = _unchanged
    why_not: Callable[[Recipe], str] = _no_reason

    def chooses(self, candidates: Recipes) -> bool:
        """Whether candidates have to be asked to find the best one."""
        return len(candidates) > 1 and not self.all_rows


def _average(winner: Recipe, assembly: Assembly) -> Recipes:
    names = winner.source_names
    return {"": _linear(winner, {name: 1 / len(names) for name in names})}


def _plugged_in(winner: Recipe, assembly: Assembly) -> Recipes:
    """Each unmerged language model behind the owner's vision tower."""
    names = winner.source_names
    return {
        name: _linear(winner, {other: float(other == name) for other in names})
        for name in names
        if name != winner.owner
    }


def _sweep(winner: Recipe, assembly: Assembly) -> Recipes:
    """The same weight for all task vectors."""
    return {f"{weight:.1f}": _vectors(winner, dict.fromkeys(winner.source_names, weight)) for weight in SWEEP}


def _tsv(winner: Recipe, assembly: Assembly) -> Recipes:
    """TSV-M with the same weight for all sources, by the method's own defaults."""
    plain = winner.by("tsv_m").model_copy(update={"options": Options(), "groups": "whole"})
    return {f"{weight:.1f}": uniform(plain, dict.fromkeys(winner.source_names, weight)) for weight in TSV}


def why_no_tsv(winner: Recipe) -> str:
    """Why there is no TSV-M of the winner's models; empty if there is one."""
    if winner.route or winner.slices:
        return "the recipe orders layers, and TSV-M merges tensors"
    return "" if winner.base is not None else "the recipe has no base, and TSV-M merges task vectors"


def why_no_room(lacking: SmallDisk) -> LeftOutNow:
    """Why a control has no row whose task vectors do not fit the disk."""
    return LeftOutNow(f"its task vectors need {size(lacking.needed)} of disk, and {size(lacking.free)} are free")


def _single_vector(winner: Recipe, assembly: Assembly) -> Recipes:
    """A single task vector, scaled."""
    names = winner.source_names
    return {
        f"{name}:{weight:.1f}": _vectors(winner, {other: weight * (other == name) for other in names})
        for name in names
        for weight in SWEEP
    }


def _interpolation(winner: Recipe, assembly: Assembly) -> Recipes:
    first, second = winner.source_names
    return {f"{weight:.1f}": _linear(winner, {first: 1 - weight, second: weight}) for weight in SWEEP}


def _without_scales(winner: Recipe, assembly: Assembly) -> Recipes:
    plain = tuple(step.model_copy(update={"scale": 1.0}) for step in winner.route)
    return {"": winner.model_copy(update={"route": plain})}


def _layers_of_others(winner: Recipe, assembly: Assembly) -> Recipes:
    """Each other source's layers behind the owner's embeddings."""
    return {
        name: winner.model_copy(update={"route": identity(name, depth_of(model))})
        for name, model in assembly.sources.items()
        if name != winner.owner
    }


def _itself(winner: Recipe, assembly: Assembly) -> Recipes:
    return {"": winner}


CONTROLS = (
    Control("average", lambda winner: not winner.route, _average),
    Control(
        "plugged_in",
        lambda winner: not winner.route and winner.kind == "vlm",
        _plugged_in,
        lambda winner, best: {"source": best},
        progress="plugged in",
    ),
    Control(
        "sweep",
        lambda winner: not winner.route and winner.base is not None,
        _sweep,
        lambda winner, best: {"weight": float(best), "of": "one weight for all task vectors"},
        progress="sweep",
    ),
    Control(
        TSV_ROW,
        lambda winner: not why_no_tsv(winner),
        _tsv,
        lambda winner, best: {"weight": float(best), "of": "one weight for all sources"},
        progress="TSV-M",
        why_not=why_no_tsv,
    ),
    Control(
        "single_vector",
        lambda winner: not winner.route and winner.base is not None and winner.kind == "llm",
        _single_vector,
        lambda winner, best: {"source_and_weight": best},
        progress="single vector",
    ),
    Control(
        "interpolation",
        lambda winner: not winner.route and winner.kind == "vlm" and len(winner.source_names) == 2,
        _interpolation,
        lambda winner, best: {"weight": float(best), "of": winner.source_names[1]},
        progress="interpolation",
    ),
    Control("without_scales", lambda winner: any(step.scale != 1.0 for step in winner.route), _without_scales, _digest),
    Control("layers_of_{}", lambda winner: bool(winner.route), _layers_of_others, all_rows=True),
    Control("shuffled_images", lambda winner: winner.kind == "vlm", _itself, _digest, asked=shuffled_images),
)


def contestants(
    evaluator: LocalEvaluator, winner: Recipe, sets: ItemSets, watch: Watch, *, trials: int
) -> list[Contestant]:
    """All rows for a winner that was chosen from `trials` trials.

    Each control picks its best candidate on the choice items, never on the test items.
    """
    test, choice = sets.test, sets.choice
    sources = Sources(evaluator)
    reworded = restyles(test, choice)
    found: dict[Control, Recipes | str] = {}
    for control in CONTROLS:
        if control.applies(winner):
            found[control] = _candidates(control, winner, evaluator, watch)
        elif why_not := control.why_not(winner):
            found[control] = LeftOut(why_not)
    chosen = [of for control, of in found.items() if not isinstance(of, str) and control.chooses(of)]
    if count := sum(map(len, chosen)) + len(sources.models) * reworded:
        watch.phase("controls", count)
    evolved = Contestant(
        "evolved",
        "evolved",
        lambda progress: evaluator.evaluate(winner, test, progress),
        {"digest": winner.digest()},
        chosen_on=choice.name,
        tries=trials,
    )
    controls = [
        row
        for control, candidates in found.items()
        for row in _rows(control, candidates, evaluator, winner, test, choice, watch)
    ]
    controls.append(prior_row((sets.search, choice), test))
    if reworded:
        controls.append(restyled_row(sources, test, choice, watch))
    return [*sources.rows(test), evolved, *controls]


def choosing(winner: Recipe, assembly: Assembly | None, without: Container[str] = ()) -> int:
    """How many candidates the controls of a winner are chosen from. A winner without a route needs no assembly.

    without: names of controls that are left out.
    """
    return sum(len(of) for control, of in _asked(winner, assembly, without) if control.chooses(of))


def prepared_by(winner: Recipe, without: Container[str] = ()) -> list[Recipe]:
    """The winner, if its method prepares task vectors, and the TSV-M control's recipe, if it needs others.

    Each has its vectors on disk at the end of the search. without: names of controls that are left out.
    """
    found = [winner] if METHODS[winner.method].prepare is not None else []
    control = None if TSV_ROW in without else control_prepared(winner)
    return found if control is None else [*found, control]


def control_prepared(winner: Recipe) -> Recipe | None:
    """The TSV-M control's recipe, if there is one whose vectors are not the winner's own."""
    if why_no_tsv(winner):
        return None
    control = winner.by("tsv_m").model_copy(update={"options": Options()})
    own = METHODS["tsv_m"].own_options
    return None if winner.method == "tsv_m" and own(winner.options.own) == own(control.options.own) else control


def rows_beside(winner: Recipe, assembly: Assembly | None, without: Container[str] = ()) -> int:
    """How many rows the controls of a winner have. The arguments are those of `choosing`."""
    return sum(1 if control.chooses(of) else len(of) for control, of in _asked(winner, assembly, without))


def _asked(winner: Recipe, assembly: Assembly | None, without: Container[str]) -> list[tuple[Control, Recipes]]:
    used = [one for one in CONTROLS if one.name not in without and one.applies(winner)]
    return [(one, one.candidates(winner, assembly)) for one in used]  # type: ignore[arg-type]


def searched(
    evaluator: LocalEvaluator, name: str, winner: Recipe, test: ItemSet, choice: ItemSet, *, trials: int
) -> Contestant:
    """The row of a baseline search's winner, which was chosen in the same way as the evolved one."""
    detail = {"digest": winner.digest(), "trials": trials}
    return Contestant(
        name,
        "controls",
        lambda progress: evaluator.evaluate(winner, test, progress),
        detail,
        chosen_on=choice.name,
        tries=trials,
    )


def _candidates(control: Control, winner: Recipe, evaluator: LocalEvaluator, watch: Watch) -> Recipes | str:
    """A control's candidates, or why it has none, as `row_failure` tells it or as a `LeftOut`.

    If their method prepares task vectors, these are made in a phase of their own.
    """
    try:
        found = control.candidates(winner, evaluator.assembly)
        for recipe in list(found.values())[:1]:  # candidates differ in weights alone
            device = torch.device(evaluator.engine.device)
            prepare_vectors(with_recipe(evaluator.assembly, recipe), device, watch)
    except SmallDisk as lacking:
        return why_no_room(lacking)
    except Exception as fault:
        return row_failure(fault)
    return found


def _rows(
    control: Control,
    candidates: Recipes | str,
    evaluator: LocalEvaluator,
    winner: Recipe,
    test: ItemSet,
    choice: ItemSet,
    watch: Watch,
) -> list[Contestant]:
    """The rows of one control: one row, or one per candidate. A control that cannot be prepared is a failed row."""
    if isinstance(candidates, str):
        return [failed(control.name.format("others"), candidates)]
    pick = control.chooses(candidates)
    try:
        items = control.asked(test)
        labels = (
            [best_of(_scorers(evaluator, candidates, choice), watch, control.progress)] if pick else list(candidates)
        )
    except NotPicked as none:
        return [failed(control.name, none.failure)]
    except Exception as fault:
        return [failed(control.name.format("others"), row_failure(fault))]
    tries = len(candidates) if pick else 1

    def row(label: str) -> Contestant:
        return Contestant(
            control.name.format(label),
            "controls",
            lambda progress: evaluator.evaluate(candidates[label], items, progress),
            control.detail(winner, label),
            chosen_on=choice.name if tries > 1 else None,
            tries=tries,
        )

    return [row(label) for label in labels]


def _scorers(evaluator: LocalEvaluator, recipes: Recipes, items: ItemSet) -> dict[str, Scorer]:
    return {
        name: lambda progress, recipe=recipe: evaluator.evaluate(recipe, items, progress).score  # type: ignore[misc]
        for name, recipe in recipes.items()
    }


def _linear(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).by("linear").model_copy(update={"groups": "whole"})


def _vectors(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).by("task_arithmetic").model_copy(update={"groups": "whole"})
