"""Searches on a real local Ray cluster: one worker against none, and nodes whose files differ."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.cached_pool import CachedPool, PooledAnswers
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.search_loop import Workers, asked_of, remote_job, search_here, search_on_ray, search_raced
from evovlm.evolution.stages import evolve_stages
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.study.study import Study
from evovlm.system.errors import StudyError

pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow  # starts clusters

RECIPES = Path(__file__).parent.parent.parent / "recipes"


@pytest.fixture(scope="module")
def plan() -> Any:
    return plan_evolution(read_recipe(RECIPES / "zoo-llm.yaml"), RECIPES, EvolveSettings(trials=6, items=8, judged=8))


def open_study(plan: Any, folder: Path) -> Study:
    return Study.open(folder, plan.recipe, plan.genes, plan.header(), plan.express, plan.assembly.root)


@pytest.mark.slow
def test_one_worker_gives_what_the_local_evaluator_gives(nodes: Cluster, plan: Any, tmp_path: Path):
    items = plan.search_items
    here, there = open_study(plan, tmp_path / "here"), open_study(plan, tmp_path / "there")
    local = LocalEvaluator(plan.assembly, batch=150)
    search_here(here, plan.searcher(), local, items, 6, lambda trial: None)
    job = remote_job(plan.recipe, plan.assembly, items, "cpu", False)
    cache = AnswerCache(tmp_path / "there" / study_log.CACHE)
    workers = Workers(nodes.address, 1)
    search_on_ray(there, plan.searcher(), job, workers, 6, lambda trial: None, cache=cache)
    own = {"seconds", "ask", "worker"}
    assert [trial.model_dump(exclude=own) for trial in there.trials] == [
        trial.model_dump(exclude=own) for trial in here.trials
    ]
    assert (tmp_path / "there" / "answers.jsonl").read_bytes() == (tmp_path / "here" / "answers.jsonl").read_bytes()
    assert len(cache) == 6 * len(items), "what a worker answered is the driver's"


class Quiet:
    """Watches nothing."""

    def phase(self, name: str, total: int) -> None:
        pass

    def step(self, text: str, **figures: float | None) -> None:
        pass


@pytest.mark.slow
def test_workers_search_both_stages_and_give_what_one_process_gives(nodes: Cluster, tmp_path: Path):
    recipe, here, there = read_recipe(RECIPES / "zoo-ps-dfs.yaml"), tmp_path / "here", tmp_path / "there"
    local = EvolveSettings(trials=3, items=4, judged=4)
    evolve_stages(recipe, RECIPES, local, here, Quiet())
    evolve_stages(recipe, RECIPES, replace(local, workers=Workers(nodes.address, 1)), there, Quiet())
    for stage in (study_log.STAGES[0], "."):
        ours, theirs = study_log.read_trials(there / stage), study_log.read_trials(here / stage)
        assert all(trial.worker for trial in ours), "made by a worker"
        assert [(t.genome, t.score, t.error) for t in ours] == [(t.genome, t.score, t.error) for t in theirs]
    assert read_recipe(there / study_log.BEST).route == read_recipe(here / study_log.BEST).route


class Nobody:
    """A pool that nobody works in: whoever gives it work is wrong."""

    size = 1

    def free(self) -> int:
        return 1

    def submit(self, ticket: int, work: Any) -> None:
        pytest.fail("an answer was to be generated again")

    def wait(self) -> Any:
        pytest.fail("somebody waits for an answer")


@pytest.mark.slow
def test_a_race_by_workers_is_the_local_race_and_is_never_run_twice(nodes: Cluster, tmp_path: Path):
    race = RaceSettings(first=8, most=1.0)
    recipe = read_recipe(RECIPES / "zoo-llm.yaml")
    assert recipe.search is not None
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"population": 6})})
    plan = plan_evolution(recipe, RECIPES, EvolveSettings(trials=7, items=16, judged=2, race=race))
    items = plan.search_items
    here, there = open_study(plan, tmp_path / "here"), open_study(plan, tmp_path / "there")
    local = LocalAnswers(LocalEvaluator(plan.assembly, batch=150), plan.recipe, items)
    search_raced(here, plan.searcher(), local, len(items), race, 7, lambda trial: None)
    job = remote_job(plan.recipe, plan.assembly, items, "cpu", False)
    cache = AnswerCache(tmp_path / "there" / study_log.CACHE)
    workers = Workers(nodes.address, 1)
    search_on_ray(there, plan.searcher(), job, workers, 7, lambda trial: None, cache=cache, race=race)
    assert [trial.model_dump(exclude={"seconds"}) for trial in there.trials] == [
        trial.model_dump(exclude={"seconds"}) for trial in here.trials
    ]
    assert len(cache) == sum(trial.items or 0 for trial in there.trials)
    nobody = PooledAnswers(CachedPool(Nobody(), cache, asked_of(plan.recipe, RECIPES, job.item_keys)))
    again = open_study(plan, tmp_path / "there")
    search_raced(again, plan.searcher(), nobody, len(items), race, 7, lambda trial: None)
    assert again.trials == there.trials


def test_other_weights_on_a_node_are_refused(plan: Any):
    job = remote_job(plan.recipe, plan.assembly, plan.search_items, "cpu", False)
    with pytest.raises(StudyError, match=r"the files of `sources.math` differ .* use the same revision on every node"):
        type(job)(**(vars(job) | {"hashes": {**job.hashes, "sources.math": "0" * 32}})).open()


def test_a_worker_takes_the_gpu_that_it_is_given(plan: Any):
    job = remote_job(plan.recipe, plan.assembly, plan.search_items, "cuda:1", False)
    assert job.device == "cuda", "a worker sees one GPU, which is its first"


def test_other_items_on_a_node_are_refused(plan: Any):
    job = remote_job(plan.recipe, plan.assembly, plan.search_items, "cpu", False)
    with pytest.raises(StudyError, match="differ from the study's"):
        type(job)(**(vars(job) | {"item_ids": ("x", *job.item_ids[1:])})).open()
    with pytest.raises(StudyError, match="differ from the study's"):
        type(job)(**(vars(job) | {"items_hash": "0" * 32})).open()
