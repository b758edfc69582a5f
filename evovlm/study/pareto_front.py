"""The Pareto front of a study with several objectives: one recipe per point, and the growth of the front.

Knows a study's trials and files; no models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evovlm.recipe.yaml_file import is_recipe, moved, write_recipe
from evovlm.search.pareto import front, hypervolumes
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.result import Front, FrontPoint
from evovlm.study.study import Study


def finished_front(study: Study) -> bool:
    """Whether `front` has the recipe of every point, as the study's log and place are now."""
    points = front_of(study.trials)
    wanted = [moved(study.candidate(trial.genome), study.root, study.folder / study_log.FRONT) for trial in points]
    return all(is_recipe(_point(study, number), recipe) for number, recipe in enumerate(wanted, start=1))


def write_front(study: Study, objectives: Sequence[str]) -> Front:
    """Write `front/point-NN.yaml`, best score first, and return the front for `result.json`.

    Every objective is higher-is-better: layers and milliseconds are negative. `hypervolume`: after each generation,
    relative to the worst value of each objective in the study.
    """
    folder = study.folder / study_log.FRONT
    folder.mkdir(exist_ok=True)
    points = []
    for number, trial in enumerate(front_of(study.trials), start=1):
        path = _point(study, number)
        recipe = study.candidate(trial.genome)
        write_recipe(moved(recipe, study.root, folder), path)
        values = dict(zip(objectives, trial.values, strict=True))
        points.append(FrontPoint(trial=trial.trial, recipe=str(path.relative_to(study.folder)), values=values))
    for stale in sorted(folder.glob("point-*.yaml"))[len(points) :]:
        stale.unlink()  # after an extension of the study the front may be shorter
    return Front(objectives=tuple(objectives), points=tuple(points), hypervolume=tuple(growth(study.trials)))


def _point(study: Study, number: int) -> Path:
    return study.folder / study_log.FRONT / f"point-{number:02d}.yaml"


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials on the Pareto front: no other trial dominates them."""
    scored = [trial for trial in trials if trial.values]
    return [scored[index] for index in front([trial.values for trial in scored])] if scored else []


def growth(trials: Sequence[Trial]) -> list[float]:
    """The hypervolume after each generation."""
    generations: dict[int, list[tuple[float, ...]]] = {}
    for trial in trials:
        generations.setdefault(trial.generation, [])
        if trial.values:
            generations[trial.generation].append(trial.values)
    return hypervolumes(list(generations.values()))
