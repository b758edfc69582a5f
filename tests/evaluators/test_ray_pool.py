"""Workers on a real local Ray cluster: lost, hanging, joining, and the driver killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evovlm.recipe.schema import Recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.space.parameters import genes_of
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.steady import SteadyRun
from evovlm.study.study import Study
from evovlm.system.errors import MachineFault, UserError

pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
from ray.cluster_utils import Cluster

from evovlm.evaluators.ray_pool import RayPool, cluster

pytestmark = pytest.mark.slow  # starts clusters

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
