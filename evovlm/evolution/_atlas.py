"""The atlas of a study: besides the winner, the best merge for each skill profile, each with its own recipe.

Knows studies, evaluators, skills and the archive; no plans and no command line. It is built from the log after the
search. Answers to the search items come from the study's cache; only the elites' answers to the `fresh` items are new.
The same log gives the same atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import is_recipe, moved, write_recipe
from evovlm.search.map_elites import Archive, Elite
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.result import read_atlas
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import RecipeError, StudyError
from evovlm.system.faults import failure_of
from evovlm.system.progress import Watch, part_of
from evovlm.tasks import Item
from evovlm.tasks.item_sets import ItemSet
from evovlm.tasks.skills import skills_of

STEPS = 10
AXES = 2


@dataclass(frozen=True)
class Axis:
    """One axis of the profiles: the mean score of some items (`places`), or another objective (its index)."""

    name: str
    places: tuple[int, ...] = ()
    objective: int = 0  # 0: none

    def value(self, evaluation: Evaluation, values: Sequence[float]) -> float:
        """A candidate's value on this axis, 0 to 100."""
        if self.objective:
            return values[self.objective]
        return sum(evaluation.scores[place] for place in self.places) / len(self.places)


def axes_of(recipe: Recipe, items: Sequence[Item]) -> tuple[Axis, ...]:
    """The two axes of a study's atlas: tasks among its objectives, or else the two most frequent skills of its items.

    With only one such task, the first axis is the study's own score. Raises RecipeError if all items ask for one skill.
    """
    objectives = recipe.search.objectives if recipe.search is not None else ()
    tasks = [Axis(name, objective=place) for place, name in enumerate(objectives, start=1) if ":" in name]
    own = Axis("score", tuple(range(len(items))))
    if tasks:
        return tuple([*([own] if len(tasks) == 1 else []), *tasks][:AXES])
    skills = skills_of(items)
    if len(skills) < AXES:
        raise RecipeError("--keep-diverse: all search items ask for one skill; give items a `skill`, or an objective")
    return tuple(Axis(name, places) for name, places in list(skills.items())[:AXES])


def make_atlas(study: Study, evaluator: LocalEvaluator, items: ItemSet, fresh: ItemSet, watch: Watch) -> dict[str, Any]:
    """Write `atlas/cell-X-Y.yaml`, one recipe per elite, and `atlas.json`; return the content of `atlas.json`.

    `fresh`: items that the search has not seen. Each elite's score on them is reported next to the score that selected
    it, because the best of many noisy scores is biased upwards.
    """
    axes = axes_of(study.recipe, items)
    archive = Archive(STEPS)
    scored = [trial for trial in study.trials if trial.score is not None and trial.promoted]
    watch.phase("atlas", len(scored))
    for trial in scored:
        progress = part_of(watch, f"trial {trial.trial}")
        evaluation = evaluator.evaluate(study.candidate(trial.genome), items, progress)
        profile = tuple(axis.value(evaluation, trial.values) for axis in axes)
        archive.add(Elite(trial.trial, evaluation.score, profile))
        watch.step(f"{len(archive.elites)} cells")
    cells = _write(study, archive, axes)
    watch.phase("atlas on fresh items", len(cells))
    for cell in cells:
        cell["fresh"] = _fresh(study, evaluator, study.trials[cell["trial"]], fresh, watch)
    told = {
        "axes": [axis.name for axis in axes],
        "steps": STEPS,
        "trials": len(study.trials),
        "fresh_items": len(fresh),
        **archive.measures(),
        "cells": cells,
    }
    files.write_json(study.folder / study_log.ATLAS, told)
    return told


def finished_atlas(study: Study, fresh: int | None = None) -> bool:
    """Whether the study's folder has an atlas of the current log, and of `fresh` fresh items, unless that is None.

    A damaged one is to be made again.
    """
    try:
        atlas = read_atlas(study.folder)
    except StudyError:
        return False
    if atlas is None or any(cell.trial >= len(study.trials) for cell in atlas.cells):
        return False
    return atlas.trials == len(study.trials) and atlas.fresh_items == (atlas.fresh_items if fresh is None else fresh)


def remake_recipes(study: Study) -> None:
    """Write those recipes of a finished atlas again that are missing, damaged, or name places of before a move."""
    atlas = read_atlas(study.folder)
    for cell in () if atlas is None else atlas.cells:
        path = study.folder / study_log.ATLAS_RECIPES / _cell_name(cell.cell)
        recipe = moved(study.candidate(study.trials[cell.trial].genome), study.root, path.parent)
        if not is_recipe(path, recipe):
            path.parent.mkdir(exist_ok=True)
            write_recipe(recipe, path)


def refuse_atlas(recipe: Recipe, items: Sequence[Item], *, raced_by: str | None) -> None:
    """Raises RecipeError if an atlas is impossible: candidates saw too few items, or answers are not kept.

    raced_by: the option or key that asks for a race; None without one.
    """
    if raced_by is not None:
        without = "leave out --race" if raced_by == "--race" else "set `race: false` below `search`, or give --no-race"
        raise RecipeError(f"--keep-diverse: a race asks few items, too few for a profile; {without}")
    if recipe.timed:
        raise RecipeError("--keep-diverse: answers are not kept if latency is measured; leave out that objective")
    axes_of(recipe, items)


def _write(study: Study, archive: Archive, axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Write one recipe per cell, delete recipes of cells that no longer exist, and return the cells in order."""
    folder = study.folder / study_log.ATLAS_RECIPES
    folder.mkdir(exist_ok=True)
    cells, names = [], set()
    for place, elite in sorted(archive.elites.items()):
        path = folder / _cell_name(place)
        recipe = study.candidate(study.trials[elite.candidate].genome)
        write_recipe(moved(recipe, study.root, folder), path)
        names.add(path.name)
        profile = {axis.name: value for axis, value in zip(axes, elite.profile, strict=True)}
        cells.append(
            {
                "cell": list(place),
                "trial": elite.candidate,
                "score": elite.quality,
                "profile": profile,
                "digest": recipe.digest(),
                "recipe": str(path.relative_to(study.folder)),
            }
        )
    for path in folder.glob("cell-*.yaml"):
        if path.name not in names:
            path.unlink()
    return cells


def _cell_name(place: Sequence[int]) -> str:
    return f"cell-{'-'.join(map(str, place))}.yaml"


def _fresh(study: Study, evaluator: LocalEvaluator, trial: Trial, fresh: ItemSet, watch: Watch) -> float | None:
    """An elite's score on items that the search has not seen; None if it fails on them."""
    progress = part_of(watch, f"trial {trial.trial}")
    try:
        score = evaluator.evaluate(study.candidate(trial.genome), fresh, progress).score
    except Exception as fault:
        watch.step(f"trial {trial.trial}: {failure_of(fault)}")
        return None
    watch.step(f"trial {trial.trial}", score=score)
    return score
