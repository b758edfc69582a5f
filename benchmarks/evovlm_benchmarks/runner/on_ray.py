"""Run a suite on Ray: workers answer windows of all pairs; only the driver writes the run's files.

Knows the runner and worker pools. Each worker resolves models and data on its own machine, and refuses weights and
items that differ from the driver's. Windows are those of the local runner, so the answers are the same as in a local
run. A killed run can be resumed: written answers are kept, and unfinished windows are asked again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from evovlm.engines.batches import fitting_batch
from evovlm.engines.hf import Engine
from evovlm.evolution.search_loop import Workers
from evovlm.models.open_model import OpenModel, open_model
from evovlm.study import log as study_log
from evovlm.system import files
from evovlm.system.errors import CheckpointError, UserError
from evovlm.system.folder_lock import hold
from evovlm_benchmarks.runner.answering import WINDOW, PairFault, answers_of_pair, as_asked, load_engine, named_faults
from evovlm_benchmarks.runner.pairs import Pair, plan_pairs
from evovlm_benchmarks.runner.results import ANSWERS, Failure, Outcome, Result, mended_answers
from evovlm_benchmarks.runner.running import (
    Step,
    failure,
    finished,
    kept_plan,
    plan_of,
    planned,
    result_of,
    write_result,
)
from evovlm_benchmarks.runner.suite import Suite
from evovlm_benchmarks.runner.task_options import task_options

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A window of a pair's items, from `start`; with `batch` None the worker only estimates the batch size."""

    stem: str
    plan: dict[str, Any]
    start: int
    batch: int | None
    known: frozenset[str]


@dataclass(frozen=True)
class Made:
    """A worker's result: answer rows, batch size, the sizes that had to be halved, and seconds."""

    rows: list[dict[str, Any]]
    batch: int
    halved: list[int]
    seconds: float


@dataclass(frozen=True)
class Refused:
    """A worker's result where the model cannot be loaded or cannot answer."""

    reason: str


@dataclass(frozen=True)
class Choices:
    """The command-line options that workers need, as picklable paths and names."""

    folder: str  # root of relative paths
    scoring: str | None
    lid: str | None
    device: str
    download: bool
    self_check: bool = True


@dataclass(frozen=True)
class SuiteJob:
    """Everything a worker needs to answer any pair of a suite."""

    suite: Suite
    choices: Choices

    def open(self) -> SuiteWorker:
        """Read the data on this machine and return its worker."""
        given = self.choices
        with suppress(OSError):  # another machine may lack the folder; relative paths then fail with their own error
            os.chdir(given.folder)
        lid = None if given.lid is None else Path(given.lid)
        options = task_options(scoring=given.scoring, lid=lid, download=given.download)
        return SuiteWorker(self, {pair.stem: pair for pair in plan_pairs(self.suite, options)})


class SuiteWorker:
    """Answers windows; the model used last stays loaded."""

    def __init__(self, job: SuiteJob, pairs: dict[str, Pair]) -> None:
        self._job, self._pairs = job, pairs
        self._loaded: tuple[Path, Engine] | None = None

    def __call__(self, part: Part) -> Made | Refused:
        """The answers to a window. Raises UserError if the weights or items differ from the driver's."""
        try:
            return self._answer(part)
        except (CheckpointError, PairFault) as error:
            return Refused(str(error))

    def _answer(self, part: Part) -> Made:
        started = time.perf_counter()
        pair = self._pairs[part.stem]
        opened = open_pair(pair, self._job.choices.download)
        own = plan_of(opened, pair, self._job.suite)
        other = sorted(key for key in part.plan if own.get(key) != part.plan[key])
        if other:
            raise UserError(f"{part.stem}: this worker has different {', '.join(other)}; fetch the same on every node")
        engine = self._engine(opened)
        asked, generation = as_asked(engine, pair)
        if part.batch is None:
            return Made([], fitting_batch(engine, generation), [], 0.0)
        halved: list[int] = []
        window = asked[part.start : part.start + WINDOW * part.batch]
        with named_faults(pair, self._job.choices.device):
            found = answers_of_pair(engine, pair, window, generation, part.batch, set(part.known), halved)
            rows = [answer.model_dump(mode="json") for made in found for answer in made]
        return Made(rows, part.batch, halved, time.perf_counter() - started)

    def _engine(self, opened: OpenModel) -> Engine:
        if self._loaded is None or self._loaded[0] != opened.folder:
            self._loaded = None  # freed before the next is loaded
            self._loaded = opened.folder, self._load(opened)
        return self._loaded[1]

    def _load(self, opened: OpenModel) -> Engine:
        choices = self._job.choices
        return load_engine(opened, choices.device, self_check=choices.self_check)


def open_pair(pair: Pair, download: bool) -> OpenModel:
    """A pair's model. Raises UserError as `open_model` does."""
    model = pair.model
    return open_model(model.name, model.model, model.revision, Path.cwd(), download=download)


@dataclass
class _Work:
    """The remaining work of a pair."""

    pair: Pair
    opened: OpenModel
    plan: dict[str, Any]
    batch: int | None
    known: frozenset[str]
    left: int = 0  # windows
    halved: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def windows(self) -> list[Part]:
        """The windows with missing answers; if the batch size is unknown, one part that asks for it."""
        stem, items = self.pair.stem, self.pair.items
        if self.batch is None:
            return [Part(stem, self.plan, 0, None, self.known)]
        size = WINDOW * self.batch
        starts = [
            start
            for start in range(0, len(items), size)
            if not all(item.id in self.known for item in items[start : start + size])
        ]
        self.left = len(starts)
        return [Part(stem, self.plan, start, self.batch, self.known) for start in starts]


def run_suite_on_ray(
    suite: Suite,
    opened: Mapping[str, OpenModel],
    pairs: Sequence[Pair],
    out: Path,
    *,
    choices: Choices,
    step: Step,
    workers: Workers,
) -> Outcome:
    """The results of the pairs of the opened models, as from `run_suite`; `seconds` is the sum over workers.

    Raises UserError if another process uses the folder, or a worker fails.
    """
    with hold(out):
        done: dict[str, Result] = {}
        failed: dict[str, Failure] = {}
        work: dict[str, _Work] = {}
        for pair in pairs:
            if pair.model.name not in opened:
                continue
            found = finished(out, pair, opened[pair.model.name], suite)
            if found is not None:
                step(pair, found.items, found=True)
                done[pair.stem] = found
            else:
                work[pair.stem] = _taken_up(out, pair, opened[pair.model.name], suite)
                step(pair, len(work[pair.stem].known), found=True)
        if work:
            made, failed = _Driver(suite, out, choices.device, work, step).run(SuiteJob(suite, choices), workers)
            done |= made
        return Outcome(
            [done[pair.stem] for pair in pairs if pair.stem in done],
            [failed[pair.stem] for pair in pairs if pair.stem in failed],
        )


def _taken_up(out: Path, pair: Pair, opened: OpenModel, suite: Suite) -> _Work:
    plan = plan_of(opened, pair, suite)
    path = out / ANSWERS / f"{pair.stem}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = frozenset(answer.id for answer in mended_answers(path, log.warning))
    batch = kept_plan(out, pair, plan, 0)["batch"] if planned(out, pair) else suite.batch
    return _Work(pair, opened, plan, batch, known)


class _Driver:
    """Hands out windows, writes the answers, and writes each pair's result after its last window."""

    def __init__(self, suite: Suite, out: Path, device: str, work: dict[str, _Work], step: Step) -> None:
        self._suite, self._out, self._device, self._work, self._step = suite, out, device, work, step
        self._queue: list[Part] = []
        self._done: dict[str, Result] = {}
        self._failed: dict[str, Failure] = {}

    def run(self, job: SuiteJob, workers: Workers) -> tuple[dict[str, Result], dict[str, Failure]]:
        """All results and failures, by stem. Raises UserError if a worker fails."""
        from evovlm.evaluators.ray_pool import RayPool, cluster

        for work in list(self._work.values()):
            self._plan(work)
        resource = "GPU" if self._device.startswith("cuda") else "CPU"
        tickets: dict[int, Part] = {}
        numbers = count()
        with cluster(workers.address):
            pool = RayPool(job.open, workers=workers.count, resource=resource, limit=workers.limit, on_event=self._hear)
            try:
                while self._queue or tickets:
                    while self._queue and pool.free() > 0:
                        ticket = next(numbers)
                        tickets[ticket] = self._queue.pop(0)
                        pool.submit(ticket, tickets[ticket])
                    for outcome in pool.wait():
                        self._take(tickets.pop(outcome.ticket), outcome.result)
            finally:
                pool.close()
        return self._done, self._failed

    def _plan(self, work: _Work) -> None:
        """Queue a pair's remaining windows; its plan is written to disk before its first answer."""
        if work.batch is not None:
            kept_plan(self._out, work.pair, work.plan, work.batch)
        parts = work.windows()
        self._queue += parts
        if not parts:
            self._finish(work)

    def _take(self, part: Part, made: Made | Refused | str) -> None:
        work = self._work[part.stem]
        if isinstance(made, str):
            raise UserError(made)
        if isinstance(made, Refused):
            self._failed[part.stem] = failure(work.pair.model, work.pair.task.name, UserError(made.reason))
            # Windows that are being answered are written when they come, for another run.
            self._queue = [waiting for waiting in self._queue if waiting.stem != part.stem]
            return
        if part.batch is None:
            work.batch = made.batch
            self._plan(work)
            return
        files.append_rows(self._out / ANSWERS / f"{part.stem}.jsonl", made.rows)
        self._step(work.pair, len(made.rows))
        work.halved += made.halved
        work.seconds += made.seconds
        work.left -= 1
        if work.left == 0:
            self._finish(work)

    def _finish(self, work: _Work) -> None:
        sees = work.opened.layout.kind != "llm"
        how = {
            "batch": work.batch,
            "halved": work.halved,
            "resumed": len(work.known),
            "seconds": round(work.seconds, 1),
        }
        result = result_of(self._out, work.pair, work.opened, self._suite, sees, self._device, how)
        write_result(self._out, work.pair, result)
        self._done[work.pair.stem] = result

    def _hear(self, event: str, **details: object) -> None:
        """Write worker events to the run's event log."""
        study_log.log_event(self._out, event, **details)
