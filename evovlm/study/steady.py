"""The steady study: several candidates at a time, told to the searcher as they finish. Resumes by replaying both logs.

Knows a stream of candidates, a pool of workers and the study's files; no models and no cluster. Each ask is logged in
`asks.jsonl`, and trials in the order in which the searcher gets their scores; both orders together give the searcher's
state. An ask without a trial was in flight when the search stopped: it is submitted again, so that no trial is lost or
counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evovlm.evaluators.pool import Outcome, Pool
from evovlm.recipe.schema import Recipe
from evovlm.search import Genome
from evovlm.search.protocol import exact_genes
from evovlm.search.stream import Stream, most_stale
from evovlm.study import log as study_log
from evovlm.study.log import AskRow, Trial
from evovlm.study.loop import Evaluate, OnTrial, outcome_of, score_of
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import StudyError


@dataclass(frozen=True)
class _Ask:
    genome: Genome
    generation: int


class SteadyRun:
    """One run of a study with a pool of workers."""

    def __init__(self, study: Study, stream: Stream, pool: Pool) -> None:
        self._study = study
        self._stream = stream
        self._pool = pool
        self._asks: list[_Ask] = []
        self._open: dict[int, _Ask] = {}  # asked, not yet logged as a trial
        self._path = study.folder / study_log.ASKS
        self._replay()
        self._waiting = sorted(self._open)  # to be submitted again

    def run(self, trials: int, on_trial: OnTrial) -> None:
        """Search until the log has `trials` trials."""
        while len(self._study.trials) < trials:
            self._study.refuse_hopeless(len(self._study.trials), self._stream.population or 1)
            self._give_out(trials)
            outcomes = self._pool.wait()
            # Outcomes that arrive together are synced together, so a driver that is behind catches up. Trials are
            # synced before the asks that depend on them, so after a power cut no ask is logged without its trials.
            with self._study.together():
                for outcome in outcomes:
                    if len(self._study.trials) < trials:
                        on_trial(self._take(outcome))

    def _give_out(self, trials: int) -> None:
        before = len(self._asks)
        while self._pool.free() > 0:
            number = self._waiting.pop(0) if self._waiting else self._ask(trials)
            if number is None:
                break
            self._pool.submit(number, self._study.candidate(self._open[number].genome))
        if len(self._asks) > before:
            files.sync(self._path)

    def _ask(self, trials: int) -> int | None:
        """Ask the stream and log the ask before a worker gets it; None if there is nothing to ask."""
        if len(self._study.trials) + len(self._open) >= trials:
            return None
        generation = self._stream.generation
        genome = self._stream.ask()
        if genome is None:
            return None
        # If the stream started a new generation during the ask, the ask belongs to the new one.
        ask = _Ask(genome, max(generation, self._stream.generation))
        number = len(self._asks)
        row = {"ask": number, "after": len(self._study.trials), "generation": ask.generation, "genome": list(genome)}
        files.append_rows(self._path, [row], synced=False)
        self._remember(number, ask)
        return number

    def _take(self, outcome: Outcome) -> Trial:
        ask = self._open.pop(outcome.ticket)
        late = self._stream.generation - ask.generation
        told = late <= most_stale(self._pool.size, self._stream.population or 1)
        trial = self._study.add(
            ask.generation, ask.genome, outcome.result, ask=outcome.ticket, told=told, worker=outcome.worker
        )
        if told:
            self._tell(trial)
        return trial

    def _tell(self, trial: Trial) -> None:
        assert trial.ask is not None
        self._stream.tell(trial.ask, score_of(trial))

    def _replay(self) -> None:
        """Repeat the asks and tells of both logs, in their order."""
        rows = study_log.read_asks(self._study.folder)
        known = {row.ask for row in rows}
        # A study started with one evaluator asked for each trial after the previous one was told.
        rows += [
            AskRow(ask=trial.trial, after=trial.trial, generation=trial.generation, genome=trial.genome)
            for trial in self._study.trials
            if trial.ask is None and trial.trial not in known
        ]
        if len(rows) > len(known):
            files.append_rows(self._path, [row.model_dump(mode="json") for row in rows[len(known) :]])
        self._study.trials[:] = [_with_ask(trial) for trial in self._study.trials]
        for number, row in enumerate(rows):
            for trial in self._study.trials[rows[number - 1].after if number else 0 : row.after]:
                self._replay_trial(trial)
            self._replay_ask(number, row)
        for trial in self._study.trials[rows[-1].after if rows else 0 :]:
            self._replay_trial(trial)

    def _replay_ask(self, number: int, row: AskRow) -> None:
        genome = self._stream.ask()
        if genome is None or row.ask != number:
            raise StudyError(f"{self._path}: ask {number} is not in its place (an edited log?); start a new study")
        exact = exact_genes(self._stream.searcher, len(genome)) if self._stream.generation else len(genome)
        scored = next((trial for trial in self._study.trials if trial.ask == number), None)
        taken = self._study.as_logged(tuple(row.genome), genome, exact, f"{self._path}: ask {number}", scored)
        if taken != genome:
            self._stream.replace(number, taken)
        self._remember(number, _Ask(taken, row.generation))

    def _replay_trial(self, trial: Trial) -> None:
        assert trial.ask is not None
        if trial.ask not in self._open:
            raise StudyError(f"{self._study.folder}: trial {trial.trial} belongs to an ask that was not logged")
        self._study.refuse_other_genome(trial, self._open.pop(trial.ask).genome)
        if trial.told:
            self._tell(trial)

    def _remember(self, number: int, ask: _Ask) -> None:
        self._asks.append(ask)
        self._open[number] = ask


def _with_ask(trial: Trial) -> Trial:
    return trial if trial.ask is not None else trial.model_copy(update={"ask": trial.trial})


class Inline:
    """A pool of one worker, this process: for a study that was started with a pool and continues without one."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._job: tuple[int, Recipe] | None = None
        self.size = 1

    def free(self) -> int:
        """1, or 0 while a candidate is waiting."""
        return int(self._job is None)

    def submit(self, ticket: int, recipe: Recipe) -> None:
        """Accept a candidate; `wait` evaluates it."""
        self._job = (ticket, recipe)

    def wait(self) -> Sequence[Outcome]:
        """Evaluate the waiting candidate and return its outcome."""
        assert self._job is not None
        ticket, recipe = self._job
        self._job = None
        return [Outcome(ticket, outcome_of(self._evaluate, recipe), "here")]
