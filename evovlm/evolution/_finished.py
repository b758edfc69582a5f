"""A study that has nothing left to do: its result, checked, and the files that are made again without a model.

Knows studies, plans and results; evaluates nothing. Damaged files are reported, and then count as missing.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.evolution._atlas import finished_atlas, remake_recipes
from evovlm.evolution._export import save_pictures
from evovlm.evolution.plan import Plan
from evovlm.recipe.yaml_file import is_recipe, moved, write_recipe
from evovlm.search.space.ablations import rivals_of
from evovlm.search.space.parameters import search_of
from evovlm.study import log as study_log
from evovlm.study.header import Tell
from evovlm.study.pareto_front import finished_front, write_front
from evovlm.study.result import FailedRow, Result, Selection, read_result, write_result
from evovlm.study.study import Study
from evovlm.system.errors import StudyError
from evovlm.system.files import mend_tail

IMAGES = "images"


def finished(study: Study, plan: Plan, tell: Tell) -> Result | None:
    """The result of the study if nothing but its checkpoint is left to do, else None.

    `tell` is called with a sentence on a damaged one. If the study was moved since, or recipes or images are missing,
    they are written again.
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
    selection = result.selection
    if selection is None or not selection.fits(len(study.trials)):
        tell(f"{study.folder / study_log.RESULT}: its winner is not in {study_log.TRIALS}; made again")
        return None
    if _answers_were_torn(study.folder, tell) or not _has_all(result, selection, study, plan):
        return None
    _remake(selection, study, plan)
    return _at_home(result, study.folder)


def _answers_were_torn(folder: Path, tell: Tell) -> bool:
    """Whether the log of held-out answers had an unfinished last line, which is cut off."""
    answers = folder / study_log.HELD_OUT_ANSWERS
    torn = mend_tail(answers)
    if torn:
        tell(f"{answers}: its last line was unfinished; that row of the table is asked again")
    return torn


def _has_all(result: Result, selection: Selection, study: Study, plan: Plan) -> bool:
    """Whether a result has what the plan asks for, of as many items, each set scored by its own task."""
    settings, sets, held_out = plan.settings, plan.sets, result.held_out
    mixed = {sets.choice.task.name, sets.test.task.name} != {plan.task.name}
    rivals = set(rivals_of(plan.recipe))
    left_out = set() if settings.rivals else rivals
    rows = [*held_out.sources.values(), *(row for name, row in held_out.controls.items() if name not in left_out)]
    return (
        (selection.items, held_out.evolved.items) == (len(sets.choice), len(sets.test))
        and not any(isinstance(row, FailedRow) and row.again for row in rows)
        # Earlier versions scored all sets with the search's task and had no `test_task`.
        and (not mixed or result.data.test_task is not None)
        and (not settings.keep_diverse or finished_atlas(study, len(sets.choice)))
        and (result.front is not None) == bool(search_of(plan.recipe).objectives)
        and rivals - left_out <= set(held_out.controls)
        and (not settings.profile or result.profile is not None)
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


def _remake(selection: Selection, study: Study, plan: Plan) -> None:
    """Write the test images, the winner's recipe, and those of the front and of the atlas, each unless it is right."""
    if not (study.folder / IMAGES).is_dir():
        save_pictures(study.folder / IMAGES, plan.sets.test)
    candidate = study.candidate(study.trials[selection.trial].genome)
    # Earlier versions wrote the winner without the commits of models and data from the hub.
    winner, unpinned = (
        moved(recipe, study.root, study.folder) for recipe in (plan.winning(candidate).pinned, candidate)
    )
    if not is_recipe(study.folder / study_log.BEST, winner, unpinned):
        write_recipe(winner, study.folder / study_log.BEST)
    objectives = search_of(plan.recipe).objectives
    if objectives and not finished_front(study):
        write_front(study, ("score", *objectives))
    if finished_atlas(study):
        remake_recipes(study)
