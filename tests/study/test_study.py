"""The study loop with a known function in place of models; the whole thing on models: test_evolution."""

import errno
import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search import SEARCHERS, Searcher, SearchSettings, make_searcher
from evovlm.search.space.data_flow import data_flow
from evovlm.search.space.parameters import Gene, genes_of, search_settings
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.sequential import run_sequential
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import CandidateFault, MachineFault, NotFinite, StudyError, UnfitValues, UserError
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
GENES: tuple[Gene, ...] = genes_of(RECIPE, 4)
ITEMS = ("one", "two")


def peak(recipe: Recipe) -> Known:
    weight = recipe.of("ja").weight
    assert isinstance(weight, float)
    return Known(100.0 - (weight - 0.8) ** 2)


def header(**changes: Any) -> dict[str, Any]:
    return {
        "recipe": RECIPE.model_dump(mode="json", by_alias=True),
        "genes": [gene.name for gene in GENES],
        "search": {},
        "items": {"ids": list(ITEMS)},
        "versions": {"evovlm": "0"},
    } | changes


def searcher(seed: int = 0) -> Searcher:
    return make_searcher("cmaes", SearchSettings(len(GENES), None, 0.5, 1 / 6, seed))


def run(folder: Path, trials: int, evaluate: Any = peak, seed: int = 0) -> Study:
    study = Study.open(folder, RECIPE, GENES, header())
    run_sequential(study, searcher(seed), evaluate, trials, lambda trial: None)
    return study


def logged(folder: Path) -> bytes:
    return (folder / study_log.TRIALS).read_bytes()


def test_a_search_gets_better_and_its_best_recipe_is_on_disk(tmp_path: Path):
    study = run(tmp_path / "s", 80)
    first = max(trial.score or 0.0 for trial in study.trials[:8])
    best = study.best()
    assert best.score is not None
    assert best.score > first
    assert read_recipe(tmp_path / "s" / study_log.BEST) == study.candidate(best.genome)


class Killed(BaseException):
    """As abrupt as a signal, for a process that must live on."""


@pytest.mark.parametrize("at", [0, 1, 7, 8, 19, 23])
def test_a_search_cut_off_anywhere_ends_with_the_same_log(tmp_path: Path, at: int):
    run(tmp_path / "whole", 24)
    calls = 0

    def die(recipe: Recipe) -> Known:
        nonlocal calls
        if calls == at:
            raise Killed
        calls += 1
        return peak(recipe)

    with pytest.raises(Killed):
        run(tmp_path / "cut", 24, die)
    run(tmp_path / "cut", 24)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


ROUTES = Recipe.model_validate(
    {
        "kind": "llm",
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "owner": "ja",
        "method": "passthrough",
        "search": {"route": {"repeats": 2}, "population": 6, "switch": 12},
    }
)


@dataclass(frozen=True)
class KnownTwice(Known):
    """An evaluation with two objectives."""

    depth: float = 0.0

    @property
    def values(self) -> tuple[float, ...]:
        return (self.score, self.depth)


def search_routes(folder: Path, algorithm: str, trials: int, kill_at: int | None = None) -> None:
    """Routes of about five layers, most of them `math`; the process kills itself before it scores trial `kill_at`."""
    space = data_flow(ROUTES, {"ja": 3, "math": 3})
    assert ROUTES.search is not None
    search = ROUTES.search.model_copy(
        update={"algorithm": algorithm, "objectives": ("layers",) if algorithm == "nsga2" else ()}
    )

    def express(recipe: Recipe, genes: Any, genome: Any) -> Recipe:
        return space.express(recipe, genome)

    def evaluate(recipe: Recipe) -> Known:
        if len(study.trials) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if not recipe.route:
            raise ValueError("the route is empty")
        maths = sum(step.source == "math" for step in recipe.route)
        score = maths - abs(len(recipe.route) - 5) - sum((step.scale - 0.9) ** 2 for step in recipe.route)
        return KnownTwice(score, depth=-float(len(recipe.route))) if algorithm == "nsga2" else Known(score)

    study = Study.open(folder, ROUTES, space.genes, header(genes=[gene.name for gene in space.genes]), express)
    searcher = make_searcher(algorithm, search_settings(search, space.genes, space))
    run_sequential(study, searcher, evaluate, trials, lambda trial: None)


@pytest.mark.parametrize("algorithm", sorted(SEARCHERS))
def test_every_searcher_goes_on_bit_for_bit_after_sigkill(tmp_path: Path, algorithm: str):
    search_routes(tmp_path / "whole", algorithm, 33)
    for kill_at in (9, 21):  # within a generation; of two stages, in either
        child = os.fork()
        if child == 0:
            search_routes(tmp_path / "killed", algorithm, 33, kill_at)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert logged(tmp_path / "killed").count(b"\n") == kill_at
    search_routes(tmp_path / "killed", algorithm, 33)
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_a_torn_line_is_made_again(tmp_path: Path):
    run(tmp_path / "whole", 16)
    run(tmp_path / "cut", 10)
    path = tmp_path / "cut" / study_log.TRIALS
    path.write_bytes(path.read_bytes()[:-30])
    run(tmp_path / "cut", 16)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def test_a_study_can_be_prolonged(tmp_path: Path):
    run(tmp_path / "long", 24)
    run(tmp_path / "short", 11)
    run(tmp_path / "short", 24)
    assert logged(tmp_path / "short") == logged(tmp_path / "long")


def test_nothing_is_evaluated_twice(tmp_path: Path):
    run(tmp_path / "s", 10)

    def never(recipe: Recipe) -> Known:
        raise AssertionError("evaluated again")

    assert len(run(tmp_path / "s", 10, never).trials) == 10


@pytest.mark.parametrize(
    "fault",
    [
        FloatingPointError("NaN"),
        CandidateFault("every answer is empty"),
        UnfitValues("weight: linear's weights sum to 0"),
    ],
)
def test_a_failing_candidate_is_logged_and_cannot_win(tmp_path: Path, fault: Exception):
    def sometimes(recipe: Recipe) -> Known:
        if peak(recipe).score > 99.95:
            raise fault
        return peak(recipe)

    study = run(tmp_path / "s", 40, sometimes)
    failed = [trial for trial in study.trials if trial.error]
    assert failed
    assert all(type(fault).__name__ in (trial.error or "") and trial.score is None for trial in failed)
    assert study.best().score is not None
    assert (study.best().score or 0.0) <= 99.95


def test_a_score_that_is_not_finite_is_a_failure(tmp_path: Path):
    calls = iter(range(100))
    study = run(tmp_path / "s", 16, lambda recipe: Known(float("nan")) if next(calls) % 2 else peak(recipe))
    assert [trial.error is not None for trial in study.trials] == [bool(index % 2) for index in range(16)]


def test_a_programming_error_is_not_swallowed(tmp_path: Path):
    def broken(recipe: Recipe) -> Known:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run(tmp_path / "s", 8, broken)


def test_a_generation_in_which_all_fail_ends_the_study_with_the_reason(tmp_path: Path):
    def fail(recipe: Recipe) -> Known:
        raise RuntimeError("no kernel for this device")

    with pytest.raises(StudyError, match="no kernel for this device"):
        run(tmp_path / "s", 30, fail)


@pytest.mark.parametrize(
    "fault",
    [
        StudyError("the files of `ja` differ"),
        MachineFault("MeCab cannot open this dictionary"),
        MemoryError("none"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{str(fault)[:20]}",
)
def test_what_the_machine_or_the_user_lacks_stops_the_search_and_logs_no_trial(tmp_path: Path, fault: Exception):
    calls = iter(range(100))

    def lacking(recipe: Recipe) -> Known:
        if next(calls) == 3:
            raise fault
        return peak(recipe)

    with pytest.raises(UserError) as told:
        run(tmp_path / "s", 16, lacking)
    assert str(fault).splitlines()[0] in str(told.value)
    assert logged(tmp_path / "s").count(b"\n") == 3
    # With what it lacked, the same command ends as if nothing had happened.
    run(tmp_path / "s", 16)
    run(tmp_path / "whole", 16)
    assert logged(tmp_path / "s") == logged(tmp_path / "whole")


def test_a_full_disk_stops_the_search_and_logs_no_trial(tmp_path: Path):
    def full(recipe: Recipe) -> Known:
        raise OSError(errno.ENOSPC, "No space left on device", "answers.sqlite")

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "s", 16, full)
    assert not (tmp_path / "s" / study_log.TRIALS).exists()


def test_five_unforeseen_failures_in_a_row_stop_the_search(tmp_path: Path):
    calls = iter(range(100))

    def breaks(recipe: Recipe) -> Known:
        if next(calls) in (1, 2, 3, 4, 6, 7, 8, 9, 10):
            raise RuntimeError("an unknown kernel error")
        return peak(recipe)

    with pytest.raises(StudyError, match=r"5 candidates in a row failed .*an unknown kernel error"):
        run(tmp_path / "s", 30, breaks)
    assert logged(tmp_path / "s").count(b"\n") == 11
    # The reason mended, the same command goes on.
    assert len(run(tmp_path / "s", 30).trials) == 30


def test_candidates_own_failures_are_no_reason_to_stop_before_twenty(tmp_path: Path):
    calls = iter(range(100))

    def fails(recipe: Recipe) -> Known:
        if next(calls) < 19:
            raise NotFinite("model.norm.weight: the merged weights are not finite")
        return peak(recipe)

    assert len(run(tmp_path / "s", 24, fails).trials) == 24


def test_twenty_candidates_without_a_score_stop_the_search_now_and_when_resumed(tmp_path: Path):
    def fails(recipe: Recipe) -> Known:
        raise NotFinite("the logits are not finite")

    for _ in range(2):
        with pytest.raises(StudyError, match=r"none of the first 20 .*the logits are not finite"):
            run(tmp_path / "s", 60, fails)
        assert logged(tmp_path / "s").count(b"\n") == 20


def test_a_population_of_more_than_twenty_is_waited_for(tmp_path: Path):
    study = Study.open(tmp_path / "s", RECIPE, GENES, header())
    for done in range(1, 31):
        study.refuse_hopeless(done - 1, 30)
        study.add(0, [0.5] * len(GENES), "FloatingPointError: the logits are not finite")
    with pytest.raises(StudyError, match="none of the first 30"):
        study.refuse_hopeless(30, 30)


@pytest.mark.parametrize(
    ("key", "other", "told"),
    [
        ("recipe", RECIPE.model_dump(mode="json", by_alias=True) | {"seed": 3}, "another `recipe.seed` (0; now 3)"),
        ("search", {"sigma": 0.25}, "another `search.sigma` (0.16666666666666666; now 0.25)"),
        ("genes", ["ja.weight.whole"], "another `genes["),
        ("items", {"ids": ["other"]}, 'another `items.ids[0]` ("one"; now "other")'),
        ("race", {"first": 2}, "another `race` (null; now {"),
        ("eight_bit", True, "another `eight_bit` (false; now true)"),
    ],
)
def test_a_study_of_something_else_is_not_resumed(tmp_path: Path, key: str, other: Any, told: str):
    run(tmp_path / "s", 4)
    with pytest.raises(StudyError, match=rf"{re.escape(told)}.*; resume with the original command"):
        Study.open(tmp_path / "s", RECIPE, GENES, header(**{key: other}))


def test_another_seed_is_noticed_by_its_genomes(tmp_path: Path):
    run(tmp_path / "s", 4)
    with pytest.raises(StudyError, match="trial 0 has another genome"):
        run(tmp_path / "s", 8, seed=1)


def nudge(folder: Path, trial: int, by: float) -> None:
    """Move a gene of a logged trial, as another processor's rounding does."""
    rows = list(files.read_rows(folder / study_log.TRIALS))
    rows[trial]["genome"][0] += by
    (folder / study_log.TRIALS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_study_goes_on_where_another_processor_rounds_otherwise(tmp_path: Path):
    run(tmp_path / "s", 12)
    nudge(tmp_path / "s", 10, 1e-10)
    assert len(run(tmp_path / "s", 16).trials) == 16
    nudge(tmp_path / "s", 10, 1e-4)
    with pytest.raises(StudyError, match="trial 10 has another genome"):
        run(tmp_path / "s", 20)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(StudyError, match="exists and is not a study"):
        run(tmp_path / "photos", 4)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_finalists_are_the_best_trials_without_twins(tmp_path: Path):
    study = run(tmp_path / "s", 30)
    finalists = list(study.finalists(5))
    scores = [trial.score for trial in finalists]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert len({trial.genome for trial in finalists}) == 5
    assert finalists[0] == study.best()


def test_changed_versions_are_noted_on_resume(tmp_path: Path):
    run(tmp_path / "s", 4)
    Study.open(tmp_path / "s", RECIPE, GENES, header(versions={"evovlm": "1"}))
    events = list(files.read_rows(tmp_path / "s" / study_log.EVENTS))
    assert [event["event"] for event in events] == ["started", "resumed"]
    assert events[1]["changed_versions"] == {"evovlm": "1"}


def test_the_watcher_sees_every_new_trial_once(tmp_path: Path):
    seen: list[Trial] = []
    study = Study.open(tmp_path / "s", RECIPE, GENES, header())
    run_sequential(study, searcher(), peak, 9, seen.append)
    assert seen == study.trials


def test_a_score_at_less_effort_alone_takes_neither_the_best_recipe_nor_its_answers(tmp_path: Path):
    study = Study.open(tmp_path / "s", RECIPE, GENES, header())
    study.add(0, (0.2,) * len(GENES), Known(50.0))
    best = (tmp_path / "s" / study_log.BEST).read_bytes()
    answers = (tmp_path / "s" / study_log.ANSWERS).read_bytes()
    study.add(0, (0.9,) * len(GENES), Known(90.0), cheap=90.0, promoted=False)
    assert (tmp_path / "s" / study_log.BEST).read_bytes() == best
    assert (tmp_path / "s" / study_log.ANSWERS).read_bytes() == answers
    study.add(0, (0.4,) * len(GENES), Known(51.0))
    assert read_recipe(tmp_path / "s" / study_log.BEST) == study.candidate((0.4,) * len(GENES))


@pytest.mark.parametrize("genome", [[0.5], [0.5] * (len(GENES) + 1)])
def test_a_genome_of_another_length_is_refused_when_a_study_is_opened(tmp_path: Path, genome: list[float]):
    run(tmp_path / "s", 3)
    lines = [json.loads(line) for line in logged(tmp_path / "s").splitlines()]
    lines[1]["genome"] = genome
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "s" / study_log.TRIALS).write_text(text, encoding="utf-8")
    told = f"{study_log.TRIALS}:2: `genome` has length {len(genome)}, and the search has {len(GENES)} genes; restore"
    with pytest.raises(StudyError, match=told):
        run(tmp_path / "s", 3)


def test_a_gene_outside_of_its_interval_is_refused(tmp_path: Path):
    run(tmp_path / "s", 2)
    path = tmp_path / "s" / study_log.TRIALS
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["genome"][0] = -0.5
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(StudyError, match=f"{study_log.TRIALS}:1: not a trial .*genome.0"):
        run(tmp_path / "s", 2)
