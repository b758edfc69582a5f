"""Workers on a real local Ray cluster: lost, hanging, joining, and the driver killed; one worker against none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.cached_pool import CachedPool, PooledAnswers
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.search_loop import Workers, asked_of, remote_job, search_here, search_on_ray, search_raced
from evovlm.evolution.stages import evolve_stages
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.race import RaceSettings
from evovlm.search.space.parameters import genes_of
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.steady import SteadyRun
from evovlm.study.study import Study
from evovlm.system.errors import MachineFault, StudyError, UserError

pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
from ray.cluster_utils import Cluster

from evovlm.evaluators.ray_pool import RayPool, cluster

pytestmark = pytest.mark.slow  # starts clusters

RECIPES = Path(__file__).parent.parent.parent / "recipes"
RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "dare_ties",
        "search": {},
    }
)
GENES = genes_of(RECIPE, 4)
# A driver in a process of its own, that can be killed. Its candidates take 0.2 seconds.
DRIVER = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[3])
from evovlm.evaluators.ray_pool import RayPool, cluster
from evovlm.search.space.parameters import genes_of
from evovlm.recipe.schema import Recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.stream import stream_of
from evovlm.study.study import Study
from evovlm.study.steady import SteadyRun

def opener():
    def judge(recipe):
        time.sleep(0.2)
        return SimpleNamespace(score=recipe.of("ja").weight, spread=1.0, exact_share=0.5, seconds={}, values=(),
                               scores=(1.0,), answers=("a",))
    return judge

recipe = Recipe.model_validate_json(sys.argv[4])
genes = genes_of(recipe, 4)
header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": ["one"]}, "versions": {}}
study = Study.open(Path(sys.argv[1]), recipe, genes, header)
searcher = make_searcher("cmaes", SearchSettings(len(genes), None, 0.5, 1 / 6, 0))
with cluster(sys.argv[2]):
    pool = RayPool(opener, workers=2, resource="CPU", limit=None, on_event=lambda event, **details: None)
    SteadyRun(study, stream_of(searcher), pool).run(20, lambda trial: None)
"""


def opener_of(folder: Path, once: str, always: float = 0.0) -> Callable[[], Callable[[Recipe], Any]]:
    """Opens an evaluator that misbehaves once, at its third candidate: `die`, `hang`; `nan` does it again and again."""

    def opener() -> Callable[[Recipe], Any]:
        import os
        import time
        from types import SimpleNamespace

        def judge(recipe: Recipe) -> Any:
            count = len(list(folder.glob("seen-*")))
            (folder / f"seen-{time.time_ns()}").touch()
            score = float(recipe.of("ja").weight)  # type: ignore[arg-type]
            time.sleep(always)
            if once == "nan" and count % 3 == 2:
                score = float("nan")
            elif count == 2 and once == "die":
                os.kill(os.getpid(), 9)
            elif count == 2 and once == "hang":
                time.sleep(600)
            return SimpleNamespace(
                score=score, spread=1.0, exact_share=0.5, seconds={}, values=(), scores=(1.0,), answers=("a",)
            )

        return judge

    return opener


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster whose head does no work, and one node with a core."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    found.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()


@pytest.fixture
def connected(nodes: Cluster) -> Iterator[Cluster]:
    with cluster(nodes.address):
        yield nodes


class Run:
    """A study of a function on the cluster, and what its events were."""

    def __init__(self, folder: Path, opener: Any, *, workers: int | None = 2, limit: float | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": ["one"]}, "versions": {}}
        self.study = Study.open(folder, RECIPE, GENES, header)
        self.pool = RayPool(opener, workers=workers, resource="CPU", limit=limit, on_event=self.hear)

    def hear(self, event: str, **details: Any) -> None:
        self.events.append((event, details))

    def go(
        self, trials: int, on_trial: Callable[[Any], None] = lambda trial: None, population: int | None = None
    ) -> None:
        searcher = make_searcher("cmaes", SearchSettings(len(GENES), population, 0.5, 1 / 6, 0))
        try:
            SteadyRun(self.study, stream_of(searcher), self.pool).run(trials, on_trial)
        finally:
            self.pool.close()

    def named(self, event: str) -> list[dict[str, Any]]:
        return [details for name, details in self.events if name == event]


def answered_once(study: Study, trials: int) -> bool:
    return sorted(trial.ask for trial in study.trials if trial.ask is not None) == list(range(trials))


@pytest.mark.slow
def test_a_worker_killed_in_mid_candidate_costs_no_trial(connected: Cluster, tmp_path: Path):
    run = Run(tmp_path / "study", opener_of(tmp_path, "die"))
    run.go(12)
    assert answered_once(run.study, 12)
    assert all(trial.error is None for trial in run.study.trials)
    (lost,) = run.named("worker lost")
    assert "ActorDied" in lost["reason"]
    assert lost["ask"] in range(12)


@pytest.mark.slow
def test_a_hanging_worker_is_replaced_after_the_time_limit(connected: Cluster, tmp_path: Path):
    run = Run(tmp_path / "study", opener_of(tmp_path, "hang"), limit=1.5)
    run.go(12)
    assert answered_once(run.study, 12)
    assert all(trial.error is None for trial in run.study.trials)
    (late,) = run.named("time limit")
    assert late["reason"] == "no answer in 1.5 seconds"


def test_a_score_that_is_no_number_is_a_failed_trial(connected: Cluster, tmp_path: Path):
    run = Run(tmp_path / "study", opener_of(tmp_path, "nan"), workers=1)
    run.go(9)
    failed = [trial.trial for trial in run.study.trials if trial.error == "FloatingPointError: the score is nan"]
    assert failed == [2, 5, 8]
    assert answered_once(run.study, 9)


@pytest.mark.slow
def test_a_candidate_that_kills_every_worker_comes_back_as_failed(connected: Cluster, tmp_path: Path):
    def opener() -> Callable[[Recipe], Any]:
        import os

        return lambda recipe: os.kill(os.getpid(), 9)

    run = Run(tmp_path / "study", opener, workers=1)
    run.go(2, population=2)
    assert all((trial.error or "").startswith("worker lost, 3 times") for trial in run.study.trials)


@pytest.mark.slow
def test_a_machine_that_lacks_memory_stops_the_search_and_logs_no_trial(connected: Cluster, tmp_path: Path):
    tries = tmp_path / "tries"

    def opener() -> Callable[[Recipe], Any]:
        def judge(recipe: Recipe) -> Any:
            with tries.open("a") as file:
                file.write("x")
            raise MemoryError("4 GB could not be allocated")

        return judge

    run = Run(tmp_path / "study", opener, workers=1)
    with pytest.raises(MachineFault, match=r":\d+: not enough memory .4 GB could not be allocated.*tried 3 times"):
        run.go(4, population=2)
    assert not run.study.trials
    assert tries.read_text() == "xxx"
    assert len(run.named("worker stopped")) == 3


def test_a_users_error_on_a_worker_stops_the_search_and_logs_no_trial(connected: Cluster, tmp_path: Path):
    def opener() -> Callable[[Recipe], Any]:
        def judge(recipe: Recipe) -> Any:
            from evovlm.system.errors import DataError

            raise DataError("item 3: its image cannot be read")

        return judge

    run = Run(tmp_path / "study", opener, workers=1)
    with pytest.raises(UserError, match=r":\d+: item 3: its image cannot be read"):
        run.go(4, population=2)
    assert not run.study.trials


@pytest.mark.slow
def test_a_node_lost_and_another_joined(connected: Cluster, tmp_path: Path):
    extra = connected.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    run = Run(tmp_path / "study", opener_of(tmp_path, "", always=0.15), workers=None)
    assert run.pool.size == 3
    searcher = make_searcher("cmaes", SearchSettings(len(GENES), None, 0.5, 1 / 6, 0))
    steady = SteadyRun(run.study, stream_of(searcher), run.pool)
    trials = 30
    steady.run(trials, lambda trial: None if trial.trial != 8 else connected.remove_node(extra, allow_graceful=False))
    known = len(run.named("worker joined"))
    connected.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    until = time.monotonic() + 60
    while len(run.named("worker joined")) == known and time.monotonic() < until:
        trials += 10
        steady.run(trials, lambda trial: None)
    run.pool.close()
    assert run.named("worker lost")
    assert len(run.named("worker joined")) > known, "the node that joined got a worker"
    assert answered_once(run.study, trials)
    assert all(trial.error is None for trial in run.study.trials)


@pytest.mark.slow
def test_the_driver_killed_and_started_again(nodes: Cluster, tmp_path: Path):
    root = str(Path(__file__).parent.parent.parent)
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "s"), nodes.address, root, RECIPE.model_dump_json()]
    driver = subprocess.Popen(command, start_new_session=True)
    log = tmp_path / "s" / study_log.TRIALS
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and log.read_bytes().count(b"\n") >= 5):
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    told = log.read_bytes()
    assert 5 <= told.count(b"\n") < 20
    subprocess.run(command, check=True, timeout=120)
    trials = study_log.read_trials(tmp_path / "s")
    assert log.read_bytes().startswith(told[: told.rfind(b"\n") + 1])
    assert sorted(trial.ask for trial in trials if trial.ask is not None) == list(range(20))


@pytest.mark.slow
def test_nothing_is_left_of_our_own_cluster_when_its_driver_is_killed(tmp_path: Path):
    """Not even Ray's agents, which outlive it by a minute."""
    root = str(Path(__file__).parent.parent.parent)
    shared, folders = set(os.listdir("/dev/shm")), set(Path("/tmp").glob("evovlm-ray-*"))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "s"), "local", root, RECIPE.model_dump_json()]
    driver = subprocess.Popen(command, start_new_session=True)
    log = tmp_path / "s" / study_log.TRIALS
    until = time.monotonic() + 120
    while time.monotonic() < until and not log.exists():
        time.sleep(0.05)
    started = psutil.Process(driver.pid).children(recursive=True)
    names = " ".join(process.name() for process in started)
    assert "raylet" in names, names
    assert "Agent" in names, names
    assert set(Path("/tmp").glob("evovlm-ray-*")) - folders
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(started, timeout=15)
    assert not alive
    assert set(Path("/tmp").glob("evovlm-ray-*")) <= folders
    assert set(os.listdir("/dev/shm")) <= shared


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
