"""Run a suite: every model answers every task; answers are stored as they are made, and a killed run can be resumed.

Knows engines, tasks and the result files; prints nothing. A pair's plan (items, prompt, batch) is written before its
first answer, and a resumed run keeps to it, so that its result equals that of an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from evovlm.engines.batches import fitting_batch
from evovlm.engines.hf import Engine
from evovlm.models.open_model import OpenModel, open_model
from evovlm.system import files
from evovlm.system.device import check_device
from evovlm.system.errors import CheckpointError, StudyError, UserError, joined_errors
from evovlm.system.folder_lock import hold
from evovlm.system.version import hardware, versions
from evovlm_benchmarks.runner.answering import PairFault, answers_of_pair, as_asked, load_engine, named_faults
from evovlm_benchmarks.runner.contamination import bred_on
from evovlm_benchmarks.runner.pairs import Pair
from evovlm_benchmarks.runner.results import (
    ANSWERS,
    RESULTS,
    Damaged,
    Failure,
    Outcome,
    Result,
    digest_of,
    images_digest_of,
    mended_answers,
    read_answers,
    read_result,
    summary,
)
from evovlm_benchmarks.runner.suite import Suite, SuiteModel

log = logging.getLogger(__name__)
PLANS = "plans"
ENDS = 2**20  # bytes at each end of a weight file that are hashed to identify it


class Step(Protocol):
    """Called with the number of answers that were made, or `found` on disk; with 0 when a pair begins."""

    def __call__(self, pair: Pair, count: int, *, found: bool = False) -> None:
        """Count answers."""


def open_models(suite: Suite, *, download: bool) -> tuple[dict[str, OpenModel], list[Failure]]:
    """The models of a suite that can be opened, by name, and those that cannot, with the reason.

    All are opened before the first is run, so that a wrong name is an early error. Raises UserError,
    naming every one, if none can be opened.
    """
    opened: dict[str, OpenModel] = {}
    failures = []
    for model in suite.models:
        try:
            opened[model.name] = open_model(model.name, model.model, model.revision, Path.cwd(), download=download)
        except CheckpointError as error:
            failures.append(failure(model, None, error))
    if not opened:
        raise UserError(joined_errors([failure_line(one) for one in failures], "models failed"))
    return opened, failures


def failure(model: SuiteModel, task: str | None, error: UserError) -> Failure:
    """The record of a model that cannot be opened, or cannot answer a task."""
    return Failure(model=model.name, path=model.model, task=task, reason=str(error))


def failure_line(one: Failure) -> str:
    """A failure as one line. A pair's reason names model and task itself."""
    return f"{one.model}: {one.reason}" if one.task is None else one.reason


def run_suite(
    suite: Suite,
    opened: Mapping[str, OpenModel],
    pairs: Sequence[Pair],
    out: Path,
    *,
    device: str,
    step: Step,
    self_check: bool = True,
) -> Outcome:
    """The results of the pairs of the opened models; those that fail are listed with the reason.

    Raises UserError if the device is not there, another process uses the folder, or it was begun with other settings.
    """
    check_device(device)
    outcome = Outcome([], [])
    with hold(out):
        for model in suite.models:
            if model.name in opened:
                own = [pair for pair in pairs if pair.model == model]
                load = partial(load_engine, opened[model.name], device, self_check=self_check)
                _run_model(opened[model.name], own, suite, out, device, step, outcome, load)
    return outcome


def _run_model(
    opened: OpenModel,
    pairs: Sequence[Pair],
    suite: Suite,
    out: Path,
    device: str,
    step: Step,
    outcome: Outcome,
    load: Callable[[], Engine],
) -> None:
    """Add a model's results and failures; the model is loaded only if an answer is missing."""
    engine: Engine | None = None
    for pair in pairs:
        done = finished(out, pair, opened, suite)
        if done is not None:
            step(pair, done.items, found=True)
            outcome.results.append(done)
            continue
        step(pair, 0)
        if engine is None:
            try:
                engine = load()
            except PairFault as error:
                outcome.failures.append(failure(pair.model, None, error))
                return
        try:
            outcome.results.append(_run_pair(engine, opened, pair, suite, out, device, step))
        except PairFault as error:
            outcome.failures.append(failure(pair.model, pair.task.name, error))


def _run_pair(
    engine: Engine, opened: OpenModel, pair: Pair, suite: Suite, out: Path, device: str, step: Step
) -> Result:
    started = time.perf_counter()
    asked, generation = as_asked(engine, pair)
    batch = suite.batch or fitting_batch(engine, generation)
    with named_faults(pair, device):  # an image may be unreadable
        own = plan_of(opened, pair, suite)
    plan = kept_plan(out, pair, own, batch)
    path = out / ANSWERS / f"{pair.stem}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {answer.id for answer in mended_answers(path, log.warning)}
    step(pair, len(known), found=True)
    halved: list[int] = []
    with named_faults(pair, device):
        for made in answers_of_pair(engine, pair, asked, generation, plan["batch"], known, halved):
            files.append_rows(path, [answer.model_dump(mode="json") for answer in made])
            step(pair, len(made))
    work = {"batch": plan["batch"], "halved": halved, "resumed": len(known)}
    work["seconds"] = round(time.perf_counter() - started, 1)
    result = result_of(out, pair, opened, suite, engine.sees, device, work)
    write_result(out, pair, result)
    return result


def write_result(out: Path, pair: Pair, result: Result) -> None:
    """Write a pair's result, which marks the pair as finished."""
    where = out / RESULTS / f"{pair.stem}.json"
    where.parent.mkdir(exist_ok=True)
    files.write_json(where, result.model_dump(mode="json"))


def plan_of(opened: OpenModel, pair: Pair, suite: Suite) -> dict[str, Any]:
    """Everything that determines a pair's answers and scores, except batch size and machine."""
    plan = {
        "model": pair.model.model_dump(mode="json"),
        "weights": _weights_of(opened),
        "task": pair.asked.task,
        "items": digest_of(pair.items),
        "images": images_digest_of(pair.items),
        "generation": pair.task.generation.content,
        "rules": dict(pair.task.rules),
        "seed": suite.seed,
    }
    loaded: dict[str, Any] = json.loads(json.dumps(plan))
    return loaded


def _weights_of(opened: OpenModel) -> list[list[Any]]:
    """Names, sizes and end hashes of the weight files, to detect a model that was merged again under the same name."""
    found: list[list[Any]] = []
    for path in sorted(opened.folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            ends = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            ends += file.read(ENDS)
        found.append([path.name, size, hashlib.blake2b(ends, digest_size=8).hexdigest()])
    return found


def planned(out: Path, pair: Pair) -> bool:
    """Whether a pair's plan is on disk."""
    return (out / PLANS / f"{pair.stem}.json").exists()


def kept_plan(out: Path, pair: Pair, plan: dict[str, Any], batch: int) -> dict[str, Any]:
    """The plan on disk, written if missing. Raises UserError if the stored plan differs."""
    path = out / PLANS / f"{pair.stem}.json"
    step = "choose another folder with --out, or delete this one"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, plan | {"batch": batch})
        return plan | {"batch": batch}
    try:
        stored = files.read_json(path)
    except StudyError as error:
        raise UserError(f"{error.args[0].partition(';')[0]}; {step}") from None
    if type(stored.get("batch")) is not int or stored["batch"] < 0:
        raise UserError(f"{path}: damaged (`batch` is {stored.get('batch')!r}); {step}")
    if "images" not in stored:  # earlier versions did not write it; from now on it is compared
        stored["images"] = plan["images"]
        files.write_json(path, stored)
    other = sorted(key for key in plan if stored.get(key) != plan[key])
    if "items" in other and "images" in other:  # other questions are about other images
        other.remove("images")
    if other:
        raise UserError(f"{path}: started with different {', '.join(other)}; {step}")
    return stored


def finished(out: Path, pair: Pair, opened: OpenModel, suite: Suite) -> Result | None:
    """The stored result of a finished pair, else None; a damaged one is reported, and counts as none.

    Raises UserError if its plan differs.
    """
    path = out / RESULTS / f"{pair.stem}.json"
    if not path.exists():
        return None
    kept_plan(out, pair, plan_of(opened, pair, suite), 0)
    try:
        return read_result(path)
    except Damaged as error:
        log.warning("%s; scored again", error)
        return None


def result_of(
    out: Path, pair: Pair, opened: OpenModel, suite: Suite, sees: bool, device: str, work: dict[str, Any]
) -> Result:
    """The result computed from the answers on disk. `work`: batch, halved, resumed, seconds."""
    made = {answer.id: answer for answer in read_answers(out / ANSWERS / f"{pair.stem}.jsonl")}
    return Result(
        model=pair.model.name,
        path=pair.model.model,
        revision=None if opened.origin is None else opened.origin.commit,
        task=pair.task.name,
        split=pair.split,
        items_digest=digest_of(pair.items),
        images_digest=images_digest_of(pair.items),
        seed=suite.seed,
        rules=dict(pair.task.rules),
        generation=pair.task.generation.content,
        sees=sees,
        overlap=bred_on(pair.model, opened.folder, pair.items),
        answers=f"{ANSWERS}/{pair.stem}.jsonl",
        versions=versions(),
        hardware=hardware(device),
        **work,
        **summary([made[item.id] for item in pair.items], suite.seed),
    )
