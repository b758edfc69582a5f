"""A study that has nothing left to do: its result, checked, and the files that are made again without a model.

Knows studies, plans and results; evaluates nothing. Damaged files are reported, and then count as missing.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.evolution._atlas import finished_atlas, remake_recipes
from evovlm.evolution._export import save_pictures
from evovlm.evolution.plan import Plan
from evovlm.recipe.yaml_file import moved, read_recipe, write_recipe
from evovlm.search.space.ablations import rivals_of
from evovlm.search.space.parameters import search_of
from evovlm.study import log as study_log
from evovlm.study.header import Tell
from evovlm.study.pareto_front import write_front
from evovlm.study.result import Result, read_result, write_result
from evovlm.study.study import Study
from evovlm.system.errors import StudyError, UserError

IMAGES = "images"


def finished(study: Study, plan: Plan, tell: Tell) -> Result | None:
    """The result of the study if nothing is left to do, else None. `tell` is called with a sentence on a damaged one.

    If the study was moved since, or its recipes are missing, they are written again.
    """
    if len(study.trials) < plan.trials:
        return None
    try:
        result = read_result(study.folder)
    except StudyError as error:
        study_log.log_event(study.folder, "damaged", file=study_log.RESULT)
        tell(str(error))
        return None
    if result is None or result.trials != len(study.trials):
        return None
    if result.selection is None or not result.selection.fits(len(study.trials)):
        tell(f"{study.folder / study_log.RESULT}: its winner is not in {study_log.TRIALS}; made again")
        return None
    result = _at_home(result, study.folder)
    if not _has_all(result, study, plan):
        return None
    _remake(result, study, plan)
    return result


def _has_all(result: Result, study: Study, plan: Plan) -> bool:
    """Whether a result has everything that the plan asks for, with each set scored by its own task."""
    settings = plan.settings
    mixed = {plan.sets.choice.task.name, plan.sets.test.task.name} != {plan.task.name}
    return (
        # Earlier versions scored all sets with the search's task and had no `test_task`.
        (not mixed or result.data.test_task is not None)
        and (not settings.keep_diverse or finished_atlas(study))
        and (not settings.rivals or set(rivals_of(plan.recipe)) <= set(result.held_out.controls))
        and (not settings.profile or result.profile is not None)
        and (not settings.checkpoint or (result.checkpoint is not None and Path(result.checkpoint).is_dir()))
    )


def _at_home(result: Result, folder: Path) -> Result:
    """The result with its checkpoint where it is now: a study that was moved took its checkpoint along."""
    if result.checkpoint is None or Path(result.checkpoint).is_dir():
        return result
    here = folder / Path(result.checkpoint).name
    if not here.is_dir():
        return result
    found = result.model_copy(update={"checkpoint": str(here.resolve())})
    write_result(folder, found)
    return found


def _remake(result: Result, study: Study, plan: Plan) -> None:
    """Write the test images, the winner's recipe, and those of the front and of the atlas, unless they are there."""
    if not (study.folder / IMAGES).is_dir():
        save_pictures(study.folder / IMAGES, plan.sets.test)
    assert result.selection is not None
    candidate = study.candidate(study.trials[result.selection.trial].genome)
    # Earlier versions wrote the winner without the commits of models and data from the hub.
    winner, unpinned = (
        moved(recipe, study.root, study.folder) for recipe in (plan.winning(candidate).pinned, candidate)
    )
    path = study.folder / study_log.BEST
    try:
        if read_recipe(path).digest() in (winner.digest(), unpinned.digest()):
            return
    except UserError:
        pass
    write_recipe(winner, path)
    if result.front is not None:
        write_front(study, ("score", *search_of(plan.recipe).objectives))
    if finished_atlas(study):
        remake_recipes(study)
