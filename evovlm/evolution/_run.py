"""Evolution of one recipe: search, choice of the winner on fresh items, checkpoint, held-out table.

Connects study, evaluator and table; knows no command line. Progress goes to a `Watch`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers
from evovlm.evaluators.remote import hashing
from evovlm.evolution._atlas import make_atlas
from evovlm.evolution._controls import contestants, searched
from evovlm.evolution._export import save_pictures, write_winner
from evovlm.evolution._finished import finished
from evovlm.evolution._held_out import Contestant, failed, judge
from evovlm.evolution._profile import profile_of
from evovlm.evolution.plan import Plan
from evovlm.evolution.search_loop import (
    remote_job,
    search_here,
    search_on_ray,
    search_raced,
)
from evovlm.evolution.selection import choose_winner
from evovlm.merging.prepare import prepare_vectors
from evovlm.merging.vector_files import VectorFiles
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import moved, write_recipe
from evovlm.search.space.ablations import rivals_of
from evovlm.search.space.parameters import genes_of, search_of
from evovlm.study import log as study_log
from evovlm.study.header import Tell, sound_header
from evovlm.study.log import Trial
from evovlm.study.loop import OnTrial
from evovlm.study.pareto_front import write_front
from evovlm.study.result import AtlasSummary, JudgedData, Result, Revisions, write_result
from evovlm.study.study import Study
from evovlm.system.device import gpu_named
from evovlm.system.errors import NoScoreError, RecipeError
from evovlm.system.faults import row_failure
from evovlm.system.folder_lock import hold
from evovlm.system.progress import Progress, Watch, busy, part_of, resumed, tell
from evovlm.system.roofline import measure_rates
from evovlm.system.statistics import effective_count
from evovlm.system.version import hardware, versions
from evovlm.tasks.item_sets import ItemSet, data_of

log = logging.getLogger(__name__)


def evolve(plan: Plan, out: Path, watch: Watch) -> Result:
    """Search, choose the winner and test it; `out` is the study's folder. Returns the content of its `result.json`.

    Call it again with the same plan to resume; finished work is not repeated. Raises StudyError if the folder
    contains something else, and UserError if another process is using it.
    """
    study_log.refuse_foreign(out)
    with hold(out), ExitStack() as held:
        return _evolve(plan, out, watch, held)


def _evolve(plan: Plan, out: Path, watch: Watch, held: ExitStack) -> Result:
    started = time.perf_counter()
    told = partial(tell, watch)
    study = _open(plan, out, told)
    vectors = VectorFiles(out / study_log.VECTORS, told)
    plan = replace(plan, assembly=replace(plan.assembly, vectors=vectors))
    hashes = hashing(plan.assembly)  # in the background, while the models are loaded

    def bind_weights() -> dict[str, str]:
        with busy(watch, "hashing the models' files"):
            found = hashes.result()
        study.bind("weights", found, told)
        return found

    # Before anything is loaded if the study has hashes already: those of the same files are remembered.
    if "weights" in sound_header(out) or len(study.trials) >= plan.trials:
        bind_weights()
    done = finished(study, plan, told)
    if done is not None:
        return _with_checkpoint(done, study, plan, watch)
    search = search_of(plan.recipe)
    evaluator = _search(plan, study, watch, bind_weights, held)
    choice, test = plan.sets.choice, plan.sets.test
    winner, selection = choose_winner(study, evaluator, choice, watch)
    write_recipe(moved(plan.winning(winner).pinned, plan.assembly.root, out), out / study_log.BEST)
    front = write_front(study, ("score", *search.objectives)) if search.objectives else None
    atlas = make_atlas(study, evaluator, plan.search_items, choice, watch) if plan.settings.keep_diverse else None
    rows = contestants(evaluator, winner, plan.sets, watch, trials=len(study.trials))
    if plan.settings.rivals:
        rows += _rivals(plan, out, evaluator, choice, watch, hashes.result())
    table = judge(out, rows, test, searched=plan.task.name, seed=search.seed, watch=watch, tell=told)
    save_pictures(out / "images", test)
    result = Result(
        digest=winner.digest(),
        task=plan.task.name,
        data=_judged_data(plan),
        trials=len(study.trials),
        selection=selection,
        held_out=table,
        seed=search.seed,
        revisions=Revisions.model_validate(plan.revisions),
        versions=versions(),
        hardware=hardware(plan.settings.device),
        seconds=round(time.perf_counter() - started, 1),
    )
    more: dict[str, object] = {}
    if front is not None:
        more["front"] = front
    if plan.settings.profile:
        with busy(watch, "measuring the machine's rates"):
            rates = measure_rates(torch.device(plan.settings.device))
        more["profile"] = profile_of(study.trials, rates, evaluator.floors(rates, plan.search_items))
    if atlas is not None:
        more["atlas"] = AtlasSummary.model_validate({key: value for key, value in atlas.items() if key != "cells"})
    result = result.model_copy(update=more)
    write_result(out, result)
    vectors.remove_all_but(plan.recipe.method)
    held.close()  # no more answers; a process killed in the checkpoint leaves nothing of the cache open
    return _with_checkpoint(result, study, plan, watch)


def _open(plan: Plan, folder: Path, told: Tell) -> Study:
    """The study of a plan in a folder, begun or resumed."""
    root = plan.assembly.root
    # As in the study's recipes, from its own folder, so that study, models and data can be moved together.
    header = plan.header() | {"root": Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()}
    pictures = plan.search_items.pictures
    return Study.open(folder, plan.recipe, plan.genes, header, plan.express, root, told, plan.content_of, pictures)


def _with_checkpoint(result: Result, study: Study, plan: Plan, watch: Watch) -> Result:
    """The result, with the winner's checkpoint if the plan asks for it; it is written unless it is there.

    The result is on disk before, and is kept if the checkpoint cannot be written.
    """
    there = result.checkpoint is not None and Path(result.checkpoint).is_dir()
    if not plan.settings.checkpoint or there:
        return result
    assert result.selection is not None
    winner = study.candidate(study.trials[result.selection.trial].genome)
    try:
        folder = write_winner(plan.winning(winner), study.folder, result, watch, gpu_named(plan.settings.device))
    except RecipeError as error:  # the scales of this route cannot be folded
        log.warning("no checkpoint was written: %s", error)
        return result
    except Exception:
        kept = study.folder / study_log.RESULT
        tell(watch, f"{kept}: the result is kept, without a checkpoint; run the same command to write that")
        raise
    found = result.model_copy(update={"checkpoint": str(folder)})
    write_result(study.folder, found)
    return found


def _judged_data(plan: Plan) -> JudgedData:
    data = data_of(plan.recipe).model_dump()
    counts = {"search_items": len(plan.search_items), "left_out": plan.sets.left_out}
    test = plan.sets.test
    groups = len(set(test.pictures)) or len(test)
    worth = round(effective_count(test.pictures, len(test)), 1)
    return JudgedData(**data, **counts, test_task=test.task.name, test_groups=groups, test_effective=worth)


def _rivals(
    plan: Plan, out: Path, evaluator: LocalEvaluator, choice: ItemSet, watch: Watch, weights: dict[str, str]
) -> list[Contestant]:
    """Run the baseline searches of the same length, each a study in `rivals`; returns their winners' rows."""
    rows = []
    for name, recipe in rivals_of(plan.recipe).items():
        genes = plan.genes if plan.space is not None else genes_of(recipe, plan.assembly.layers)
        rival = replace(plan, recipe=recipe, genes=genes, settings=replace(plan.settings, race=False))
        folder, title = out / study_log.RIVALS / name, name.replace("_", " ")
        try:
            winner = _rival_winner(rival, folder, title, evaluator, watch, weights)
        except NoScoreError as error:
            rows.append(failed(name, str(error)))
        except Exception as fault:
            rows.append(failed(name, row_failure(fault)))
        else:
            rows.append(searched(evaluator, name, winner, plan.sets.test, choice, trials=plan.trials))
    return rows


def _rival_winner(
    rival: Plan, folder: Path, title: str, evaluator: LocalEvaluator, watch: Watch, weights: dict[str, str]
) -> Recipe:
    """Run one baseline search, or what is left of it, and choose its winner."""
    told = partial(tell, watch)
    study = _open(rival, folder, told)
    study.bind("weights", weights, told)
    _begin(watch, title, study, rival)
    on_trial, progress = _told_to(watch, study)
    searcher, items = rival.searcher(sound_header(folder).get("switch")), rival.search_items
    search_here(study, searcher, evaluator, items, rival.trials, on_trial, rival.objectives, progress)
    return choose_winner(study, evaluator, rival.sets.choice, watch, f"choice of {title}")[0]


def _search(
    plan: Plan, study: Study, watch: Watch, weights: Callable[[], dict[str, str]], held: ExitStack
) -> LocalEvaluator:
    """Run all trials; returns an evaluator in this process, created after the workers are done if there are any.

    `weights` compares the models' hashes with the study's, and is called before the first trial is logged. `held`
    closes the cache of answers, so that SQLite removes its log.
    """
    settings, recipe, items = plan.settings, plan.recipe, plan.search_items
    prepare_vectors(plan.assembly, gpu_named(settings.device) or torch.device("cpu"), watch)
    if plan.fidelity and not study.trials:
        _say_fidelity(study, plan.fidelity)
    _begin(watch, "search", study, plan)
    # Earlier versions did not write the switch.
    searcher, (on_trial, progress) = plan.searcher(sound_header(study.folder).get("switch")), _told_to(watch, study)
    told, cache = partial(_tell_answers, watch), None
    if not recipe.timed:
        cache = AnswerCache.replacing_damaged(study.folder / study_log.CACHE, partial(tell, watch))
        held.callback(cache.close)
    if settings.workers is not None and len(study.trials) < plan.trials:
        job = remote_job(
            recipe,
            plan.assembly,
            items,
            settings.device,
            settings.download,
            settings.keeping,
            weights(),
            self_check=settings.self_check,
        )
        search_on_ray(study, searcher, job, settings.workers, plan.trials, on_trial, told, cache=cache, race=plan.race)
    with busy(watch, "loading the models"):
        evaluator = LocalEvaluator(
            plan.assembly,
            batch=search_of(recipe).batch,
            device=settings.device,
            on_halved=lambda rows: study_log.log_event(
                study.folder, "batch halved", rows=rows, after_trials=len(study.trials)
            ),
            keeping=settings.keeping,
            tell=lambda text: study_log.log_event(study.folder, "sources", told=text),
            cache=cache,
            self_check=settings.self_check,
        )
    weights()
    if settings.workers is not None:
        return evaluator
    if len(study.trials) < plan.trials:
        with busy(watch, "preparing the questions"):
            evaluator.prepare(items)  # reports unreadable images now, so that no candidate fails because of them
    resumed(watch)
    if plan.race is not None or search_of(recipe).fidelity is not None:
        answer = LocalAnswers(evaluator, recipe, items, tell=partial(_say_fidelity, study))
        search_raced(study, searcher, answer, len(items), plan.race, plan.trials, on_trial, told)
    else:
        search_here(study, searcher, evaluator, items, plan.trials, on_trial, plan.objectives, progress)
    return evaluator


def _say_fidelity(study: Study, text: str) -> None:
    """Log a sentence on the search's lower fidelity, for the report, and show it."""
    study_log.log_event(study.folder, "fidelity", told=text)
    study.say(text)


def _begin(watch: Watch, name: str, study: Study, plan: Plan) -> None:
    """Begin the phase of a search, with the trials that its log has."""
    watch.phase(name, plan.trials)
    for trial in study.trials[: plan.trials]:
        _tell(watch, trial)
    resumed(watch)


def _told_to(watch: Watch, study: Study) -> tuple[OnTrial, Progress]:
    """What a search calls after each trial, and while it asks one."""

    def asking(done: int, total: int) -> None:
        part_of(watch, f"trial {len(study.trials)}")(done, total)

    return lambda trial: _tell(watch, trial), asking


def _tell_answers(watch: Watch, generation: int, candidates: int, done: int, most: int) -> None:
    """A race tells a generation's trials at its end; until then, how many answers it has."""
    part_of(watch, f"generation {generation}, answers", candidates)(done, most)


def _tell(watch: Watch, trial: Trial) -> None:
    if trial.promoted:
        watch.step(trial.error or f"trial {trial.trial}", score=trial.score)
    else:
        watch.step(f"trial {trial.trial}, at lower fidelity only")
