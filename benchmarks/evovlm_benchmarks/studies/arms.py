"""An arm of a study: one recipe, one seed, one budget. It is searched, its winner is chosen and tested, all on disk.

Knows evovlm; no plots. A killed arm is resumed, a finished one is read. Arms that are the same search under several
names are searched once. Results of another zoo are in another folder, named by the zoo's digest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import make_judge
from evovlm.evaluators.single_model import evaluate_model
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.evolution.selection import choose_winner
from evovlm.evolution.stages import breed, second_stage
from evovlm.models.zoo_models import FOLDER, MANIFEST, file_digest
from evovlm.recipe.schema import Recipe
from evovlm.study import log as study_log
from evovlm.study.result import Selection
from evovlm.study.sequential import run_sequential
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.bounded_files import Unreadable
from evovlm.system.bounded_json import read_json
from evovlm.system.child import die_with_parent
from evovlm.system.device import check_device
from evovlm.system.errors import UserError
from evovlm.system.progress import Quiet
from evovlm.system.version import commit, hardware, versions
from evovlm.tasks.item_sets import ItemSet, read_item_set

DONE = "arm.json"


@dataclass(frozen=True)
class Arm:
    """One search, identified by `study`, `name` and seed; arms that differ only in seed are evaluated together."""

    study: str
    name: str
    recipe: Recipe
    judged: int = 500  # test items; half as many are used to choose the winner

    @property
    def seed(self) -> int:
        """The search's seed."""
        assert self.recipe.search is not None
        return self.recipe.search.seed

    @property
    def folder(self) -> str:
        """The arm's folder, relative to the studies' folder."""
        return f"{self.study}/{self.name.replace(' ', '-')}-{self.seed}"


class _Done(BaseModel, extra="ignore", strict=True):
    """What pages and tables need of an arm's result."""

    arm: str
    seed: int
    zoo: str
    commit: str
    curve: list[FiniteFloat | None] = Field(min_length=1)
    genes: list[str]
    route: list[Any]
    parameters: dict[str, _Drawn]
    items: int
    judged: int
    tests: _Tests
    cpu_seconds: FiniteFloat
    hardware: str
    versions: dict[str, Any]


class _Drawn(BaseModel, extra="ignore"):
    """A source's parameters in the winner."""

    density: FiniteFloat | dict[str, FiniteFloat]


class _Tests(BaseModel, extra="allow"):
    """Test scores: of the winner, and others."""

    __pydantic_extra__: dict[str, FiniteFloat]
    winner: FiniteFloat


def read_arm(path: Path) -> dict[str, Any]:
    """The result of a finished arm. Raises UserError, which names the file, if it is damaged."""
    step = "remove it, and the same command finishes that search again"
    try:
        content = read_json(path, files.MOST_JSON_BYTES)
        _Done.model_validate(content)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the same command again") from None
    except Unreadable as error:
        raise UserError(f"{error}; {step}") from None
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"])) or "the value"
        raise UserError(f"{path}: no result of a search (`{key}`: {error.errors()[0]['msg']}); {step}") from None
    found: dict[str, Any] = content
    return found


def zoo_digest() -> str:
    """Twelve digits that identify the shipped zoo: a digest of its manifest, which contains a digest of every file."""
    return file_digest(FOLDER / MANIFEST)[:12]


def run_arms(arms: Sequence[Arm], out: Path, *, device: str, jobs: int, progress: Any) -> None:
    """Run the arms in `jobs` processes; `progress` is called with each finished arm.

    Arms run seed by seed, so that a run cut short leaves complete comparisons of fewer seeds. Raises UserError, before
    anything is written, for a device that cannot be used here.
    """
    check_device(device)
    for arm in arms:
        if (path := out / arm.folder / DONE).exists():
            read_arm(path)  # raises for a damaged result, before hours of work
    same: dict[tuple[str, int], list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: arm.seed):
        same.setdefault((arm.recipe.model_dump_json(by_alias=True), arm.judged), []).append(arm)
    # Spawned, because a forked process cannot use CUDA and inherits locks. Killed with this one, or they would go on.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=die_with_parent, initargs=(os.getpid(),)) as pool:
        pending = {pool.submit(run_same, group, out, device): group for group in same.values()}
        for future in as_completed(pending):
            future.result()
            for arm in pending[future]:
                progress(arm)


def run_same(arms: Sequence[Arm], out: Path, device: str) -> None:
    """Run the first of several arms that are the same search; the others get its result under their own names."""
    first = run_arm(arms[0], out, device)
    for arm in arms[1:]:
        done = out / arm.folder / DONE
        if not done.exists():
            done.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(done, first | {"study": arm.study, "arm": arm.name})


def run_arm(arm: Arm, out: Path, device: str) -> dict[str, Any]:
    """Search, choose the winner, test it; returns the content of the arm's `arm.json`."""
    folder = out / arm.folder
    done = folder / DONE
    if done.exists():
        return read_arm(done)
    started = time.process_time()
    settings = EvolveSettings(device=device, judged=arm.judged)
    first = arm.recipe.model_copy(update={"then": None})
    curve: list[float | None] = []
    if arm.recipe.then is not None:
        plan = plan_evolution(first, first.root, settings)
        study, _, selection = _search(plan, folder / study_log.STAGES[0], arm.judged)
        curve += [trial.score for trial in study.trials]
        bred = breed(plan, folder, selection.finalists, arm.recipe.then.winners, Quiet())
        first = second_stage(arm.recipe, bred)
    plan = plan_evolution(first, first.root, settings)
    study, evaluator, selection = _search(plan, folder, arm.judged)
    curve += [trial.score for trial in study.trials]
    winner = study.candidate(study.trials[selection.trial].genome)
    result = {
        "study": arm.study,
        "arm": arm.name,
        "seed": arm.seed,
        "zoo": zoo_digest(),
        "commit": commit(),
        "curve": curve,
        "genome": study.trials[selection.trial].genome,
        "genes": [gene.name for gene in plan.genes],
        "route": [step.model_dump() for step in winner.route],
        "parameters": {name: winner.of(name).model_dump() for name in winner.source_names},
        "items": len(plan.search_items),
        "judged": arm.judged,
        "tests": _tests(evaluator, plan, winner, arm.judged),
        "cpu_seconds": round(time.process_time() - started, 1),  # of the last process, if the arm was resumed
        "hardware": hardware(device),
        "versions": versions(),
    }
    files.write_json(done, result)
    return result


def _search(plan: Plan, folder: Path, judged: int) -> tuple[Study, LocalEvaluator, Selection]:
    """Run one stage's search and choose its winner."""
    study = Study.open(folder, plan.recipe, plan.genes, plan.header(), plan.express)
    search = plan.recipe.search
    assert search is not None
    evaluator = LocalEvaluator(plan.assembly, batch=search.batch, device=plan.settings.device, threads=1)
    judge = make_judge(evaluator, plan.recipe, plan.search_items, plan.objectives)
    if len(study.trials) < plan.trials:  # a complete log is used as it is, even on a machine with different rounding
        run_sequential(study, plan.searcher(), judge, plan.trials, lambda trial: None)
    _, selection = choose_winner(study, evaluator, _items(plan, "validation", judged // 2), Quiet())
    return study, evaluator, selection


def _tests(evaluator: LocalEvaluator, plan: Plan, winner: Recipe, judged: int) -> dict[str, float]:
    """Test scores of the winner and, if it has a route, of the route without scales and of each source."""
    items = _items(plan, "test", judged)
    scores = {"winner": evaluator.evaluate(winner, items).score}
    if any(step.scale != 1.0 for step in winner.route):
        bare = tuple(step.model_copy(update={"scale": 1.0}) for step in winner.route)
        scores["without scales"] = evaluator.evaluate(winner.model_copy(update={"route": bare}), items).score
    return scores | (source_scores(plan.recipe, judged) if winner.route else {})


def source_scores(recipe: Recipe, judged: int) -> dict[str, float]:
    """Each unmerged source's score on the test items."""
    assert recipe.data is not None
    return {f"source {source.name}": _source_score(source.model, recipe.data.test, judged) for source in recipe.sources}


@cache
def _source_score(model: str, test: str, judged: int) -> float:
    return evaluate_model(model, test, judged, seed=0, batch=100).score


def _items(plan: Plan, name: str, count: int) -> ItemSet:
    """The same items for every seed of a study: the seed changes the search, not the test."""
    assert plan.recipe.data is not None
    return read_item_set(name, getattr(plan.recipe.data, name), count, 0)
