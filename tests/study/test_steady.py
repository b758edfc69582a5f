"""The steady study with a pool whose workers finish out of step; no models and no cluster."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evovlm.evaluators.pool import Outcome
from evovlm.recipe.schema import Recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.space.parameters import genes_of
from evovlm.search.stream import GRACE, most_stale, stream_of
from evovlm.study import log as study_log
from evovlm.study.sequential import run_sequential
from evovlm.study.steady import Inline, SteadyRun
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import MachineFault, StudyError
from evovlm.system.faults import Unforeseen
from tests.known import Known

RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "dare_ties",
        "search": {"weight": [0.0, 1.0], "density": [0.1, 1.0]},
    }
)
GENES = genes_of(RECIPE, 4)


def peak(recipe: Recipe) -> Known:
    weight = recipe.of("ja").weight
    assert isinstance(weight, float)
    return Known(100.0 - 100 * (weight - 0.8) ** 2)


class OutOfStep:
    """Workers of random speed; `dies` after so many results, as a killed process does."""

    def __init__(self, workers: int, seed: int, dies: float = math.inf, evaluate: Any = peak) -> None:
        self.size = workers
        self.given: list[int] = []
        self._random = random.Random(seed)
        self._evaluate = evaluate
        self._busy: dict[int, Recipe] = {}
        self._left = dies

    def free(self) -> int:
        return self.size - len(self._busy)

    def submit(self, ticket: int, recipe: Recipe) -> None:
        self.given.append(ticket)
        self._busy[ticket] = recipe

    def wait(self) -> Sequence[Outcome]:
        if self._left <= 0:
            raise KeyboardInterrupt
        self._left -= 1
        ticket = self._random.choice(list(self._busy))
        return [Outcome(ticket, self._evaluate(self._busy.pop(ticket)), f"worker {ticket % self.size}")]


def study(folder: Path) -> Study:
    header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": ["one", "two"]}, "versions": {}}
    return Study.open(folder, RECIPE, GENES, header)


def run(folder: Path, pool: Any, trials: int, algorithm: str = "cmaes", seed: int = 0) -> Study:
    opened = study(folder)
    searcher = make_searcher(algorithm, SearchSettings(len(GENES), None, 0.5, 1 / 6, seed))
    SteadyRun(opened, stream_of(searcher), pool).run(trials, lambda trial: None)
    return opened


def alone(folder: Path, trials: int, algorithm: str = "cmaes") -> Study:
    opened = study(folder)
    searcher = make_searcher(algorithm, SearchSettings(len(GENES), None, 0.5, 1 / 6, 0))
    run_sequential(opened, searcher, peak, trials, lambda trial: None)
    return opened


def content(found: Study) -> list[Any]:
    return [(trial.generation, trial.genome, trial.score) for trial in found.trials]


@pytest.mark.parametrize("algorithm", ["cmaes", "ga", "random"])
def test_one_worker_makes_the_search_that_no_worker_makes(tmp_path: Path, algorithm: str):
    assert content(run(tmp_path / "one", OutOfStep(1, 0), 45, algorithm)) == content(
        alone(tmp_path / "alone", 45, algorithm)
    )


def test_generations_do_not_depend_on_how_many_work_at_them(tmp_path: Path):
    few = run(tmp_path / "few", OutOfStep(2, 0), 48, "ga")
    many = run(tmp_path / "many", OutOfStep(7, 1), 48, "ga")
    assert sorted(content(few)) == sorted(content(many))


@pytest.mark.parametrize("workers", [2, 7, 30])
def test_a_free_worker_always_gets_a_candidate_of_cma_es(tmp_path: Path, workers: int):
    pool = OutOfStep(workers, 3)
    idle = []
    wait = pool.wait

    def watched() -> Sequence[Outcome]:
        idle.append(pool.free())
        return wait()

    pool.wait = watched  # type: ignore[method-assign]
    run(tmp_path, pool, 120)
    assert not any(idle[: 120 - workers])


def test_cma_es_out_of_step_still_finds_the_peak(tmp_path: Path):
    found = run(tmp_path, OutOfStep(8, 5), 200)
    late = [trial.score for trial in found.trials[-20:] if trial.score is not None]
    early = [trial.score for trial in found.trials[:20] if trial.score is not None]
    assert sum(late) / len(late) > sum(early) / len(early) + 3
    assert (found.best().score or 0) > 99.9


@pytest.mark.parametrize("at", [0, 1, 9, 10, 31])
def test_a_killed_search_loses_no_trial_and_counts_none_twice(tmp_path: Path, at: int):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, OutOfStep(4, 0, dies=at), 40)
    out = {row["ask"] for row in files.read_rows(tmp_path / study_log.ASKS)}
    pool = OutOfStep(4, 1)
    found = run(tmp_path, pool, 40)
    answered = [trial.ask for trial in found.trials]
    assert len(found.trials) == 40
    assert len(set(answered)) == 40
    assert out <= set(answered), "what was in flight is made after all"
    assert not set(pool.given) & set(answered[:at]), "what was told is not made again"


def test_replaying_the_logs_gives_the_searchers_state(tmp_path: Path):
    """What comes next after a kill is what would have come without it."""
    run(tmp_path / "whole", OutOfStep(1, 0), 60)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", OutOfStep(1, 0, dies=33), 60)
    run(tmp_path / "cut", OutOfStep(1, 0), 60)
    for name in (study_log.TRIALS, study_log.ASKS):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_replays_of_a_log_out_of_step_ask_the_same_next(tmp_path: Path):
    run(tmp_path, OutOfStep(5, 2), 37)
    asked = []
    for _ in range(2):
        searcher = make_searcher("cmaes", SearchSettings(len(GENES), None, 0.5, 1 / 6, 0))
        stream = stream_of(searcher)
        SteadyRun(study(tmp_path), stream, OutOfStep(5, 2))
        asked.append(stream.ask())
    assert asked[0] == asked[1]


def test_a_study_goes_from_one_process_to_workers_and_back(tmp_path: Path):
    alone(tmp_path, 13)
    run(tmp_path, OutOfStep(3, 0), 25)
    found = run(tmp_path, Inline(peak), 30)
    assert [trial.trial for trial in study_log.read_trials(tmp_path)] == list(range(30))
    assert content(found)[:13] == content(alone(tmp_path / "other", 13))


def test_a_straggler_is_logged_but_not_told(tmp_path: Path):
    class Straggler(OutOfStep):
        """The first candidate comes back when only it is left."""

        def wait(self) -> Sequence[Outcome]:
            ticket = max(self._busy)
            return [Outcome(ticket, self._evaluate(self._busy.pop(ticket)), "slow")]

    found = run(tmp_path, Straggler(2, 0), 90)
    late = [trial for trial in found.trials if not trial.told]
    assert [trial.ask for trial in late] == [0]
    assert late[0].score is not None
    assert content(run(tmp_path, OutOfStep(2, 0), 92))[:90] == content(found)


def test_the_bound_on_staleness_by_hand():
    assert most_stale(1, 8) == 1 + GRACE
    assert most_stale(64, 8) == 8 + GRACE


@pytest.mark.parametrize(("updates", "told"), [(most_stale(2, 8), True), (most_stale(2, 8) + 1, False)])
def test_a_result_at_the_bound_is_told_and_one_beyond_it_is_not(tmp_path: Path, updates: int, told: bool):
    """The first candidate comes back when the search has made exactly so many updates without it."""
    population = 8

    class Held(OutOfStep):
        def wait(self) -> Sequence[Outcome]:
            ticket = max(self._busy)
            return [Outcome(ticket, self._evaluate(self._busy.pop(ticket)), "slow")]

    opened = study(tmp_path)
    searcher = make_searcher("cmaes", SearchSettings(len(GENES), population, 0.5, 1 / 6, 0))
    SteadyRun(opened, stream_of(searcher), Held(2, 0)).run(population * updates + 1, lambda trial: None)
    (late,) = (trial for trial in opened.trials if trial.ask == 0)
    assert late.trial == population * updates
    assert late.told is told


def test_a_torn_last_question_is_mended_and_the_search_goes_on(tmp_path: Path):
    run(tmp_path / "whole", OutOfStep(1, 0), 30)
    run(tmp_path / "torn", OutOfStep(1, 0), 14)
    with (tmp_path / "torn" / study_log.ASKS).open("a") as file:
        file.write('{"ask": 14, "after": 14, "gen')
    run(tmp_path / "torn", OutOfStep(1, 0), 30)
    for name in (study_log.TRIALS, study_log.ASKS):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_failures_everywhere_end_the_search_with_a_reason(tmp_path: Path):
    def broken(recipe: Recipe) -> Known:
        return Known(math.nan)

    with pytest.raises(StudyError, match=r"none of the first 20 candidates has a score .*FloatingPointError"):
        run(tmp_path, OutOfStep(3, 0, evaluate=broken), 50)


def test_a_search_without_a_score_stays_stopped_when_it_is_resumed(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(StudyError, match="none of the first 20 candidates has a score"):
            run(tmp_path, OutOfStep(3, 0, evaluate=lambda recipe: Known(math.nan)), 50)
    assert len(study_log.read_trials(tmp_path)) == 20


def test_unforeseen_failures_in_a_row_stop_a_search_with_workers(tmp_path: Path):
    with pytest.raises(StudyError, match=r"5 candidates in a row failed \(worker lost, 3 times"):
        run(tmp_path, OutOfStep(3, 0, evaluate=lambda recipe: Unforeseen("worker lost, 3 times: it died")), 50)
    assert len(study_log.read_trials(tmp_path)) == 5
    assert len(run(tmp_path, OutOfStep(3, 0), 30).trials) == 30


def test_what_the_machine_lacks_stops_a_search_with_one_worker_and_logs_no_trial(tmp_path: Path):
    def lacking(recipe: Recipe) -> Known:
        raise MemoryError("none left")

    with pytest.raises(MachineFault, match="none left"):
        run(tmp_path, Inline(lacking), 20)
    assert not study_log.read_trials(tmp_path)


def test_questions_are_known_again_where_another_processor_rounds_otherwise(tmp_path: Path):
    run(tmp_path, OutOfStep(2, 0), 10)
    path = tmp_path / study_log.ASKS
    rows = list(files.read_rows(path))
    rows[3]["genome"][0] += 1e-10
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert len(run(tmp_path, OutOfStep(2, 0), 12).trials) == 12


def test_an_edited_log_of_questions_is_refused(tmp_path: Path):
    run(tmp_path, OutOfStep(2, 0), 10)
    path = tmp_path / study_log.ASKS
    path.write_text(path.read_text().replace("0.", "0.1", 1))
    with pytest.raises(StudyError, match="ask 0 has another genome"):
        run(tmp_path, OutOfStep(2, 0), 12)
