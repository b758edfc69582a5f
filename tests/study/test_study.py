"""The study loop with a known function in place of models; the whole thing on models: tests/evolution."""

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search import SEARCHERS, make_searcher
from evovlm.search.space.data_flow import data_flow
from evovlm.search.space.parameters import search_settings
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.sequential import run_sequential
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import StudyError
from tests.known import Known
from tests.study.known_study import GENES, RECIPE, header, logged, peak, run, searcher


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
