"""`bench run --dry-run`: the estimate follows from measured steps or past runs, and says from which."""

import re
from pathlib import Path

import pytest

from evovlm.models.open_model import OpenModel, open_model
from evovlm.tasks import Options
from evovlm_benchmarks.commands.run import choose_suite
from evovlm_benchmarks.runner.estimate import FINISHING, Estimate, from_past_runs, measured
from evovlm_benchmarks.runner.pairs import Pair, plan_pairs
from tests.command import bench


@pytest.fixture(scope="module")
def maths() -> tuple[dict[str, OpenModel], list[Pair]]:
    """A small model and its pair with a small task."""
    suite = choose_suite(None, ["ja=zoo:ja"], ["zoo-maths:test"], None, 40, None, 8)
    return {"ja": open_model("ja", "zoo:ja", None, Path.cwd())}, plan_pairs(suite, Options())


def test_the_time_is_a_range_around_the_sum():
    assert Estimate(seconds=600.0, spread=2.0).in_words() == "5 to 20 min"


def test_a_few_questions_of_each_pair_are_asked(maths: tuple[dict[str, OpenModel], list[Pair]]):
    opened, pairs = maths
    found = measured(opened, [(pairs[0], 40)], "cpu", batch=8, self_check=False)
    assert re.search(r"measured on this machine just now, in .*: (20|36) questions asked", found.whence)
    assert found.seconds > FINISHING
    assert found.spread >= 1.3
    assert found.host > 10**8
    assert not found.failures


def test_past_runs_grow_with_questions_and_name_their_source(maths: tuple[dict[str, OpenModel], list[Pair]]):
    opened, pairs = maths
    few, many = (from_past_runs(opened, [(pairs[0], count)], "cpu") for count in (128, 256))
    assert many.seconds > few.seconds
    assert few.host >= opened["ja"].bytes_on("cpu")
    assert few.whence.startswith("a past run (shapes of LLaVA")
    assert few.whence.endswith("ja is the largest model, and all are scaled")


@pytest.mark.parametrize(("words", "source"), [((), "measured on this machine"), (("--no-measure",), "a past run")])
def test_a_dry_run_estimates_time_memory_and_disk_and_writes_nothing(
    tmp_path: Path, words: tuple[str, ...], source: str
):
    asked = ("--model", "ja=zoo:ja", "--task", "zoo-maths:test", "--items", "8", "--no-self-check")
    done = bench("run", *asked, "--out", "out", "--dry-run", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    # The command runs in the tests' own process, whose age counts as its start: hours, late in a long run.
    assert re.search(r"^time    [\d.]+ to [\d.]+ (s|min|h|days)$", done.stdout, re.MULTILINE)
    for part in ("memory  at most about", "disk    about", f"from    {source}"):
        assert part in done.stdout, part
    assert not list(tmp_path.iterdir())


def test_a_finished_run_has_nothing_left(run_folder: Path):
    done = bench("run", "suite.yaml", "--out", "whole", "--dry-run", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert "time    nothing is left to ask" in done.stdout
