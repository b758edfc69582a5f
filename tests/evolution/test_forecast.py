"""What a dry run foretells follows from measured steps, names all phases and says where its numbers are from."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evovlm.evolution.forecast import (
    LEAST_SPREAD,
    MOST_CROWDED,
    ROUTED_SPREAD,
    WRITING,
    Pace,
    forecast,
    forecast_stages,
    means_of,
    pace_of_routes,
    parameters_by_name,
    scope_of,
    scope_of_absent,
    spread_of,
)
from evovlm.evolution.past_runs import PAST_RUNS, past_pace
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.evolution.preparing import preparing_seconds
from evovlm.evolution.search_loop import Workers
from evovlm.evolution.stages import plan_stages
from evovlm.recipe.shipped import named_recipe
from tests.command import evovlm_here

ROOT = Path(__file__).parent.parent.parent

PACE = Pace(
    start=10.0,
    prepare=0.5,
    merge=2.0,
    answers=((10, 4.0), (50, 12.0)),
    load=7.0,
    build=30.0,
    length=10.0,
    host=10**9,
    gpu=0,
    whence="a stop watch",
    spread=1.5,
)


def plan_of(recipe: str, **settings: object) -> Plan:
    chosen = EvolveSettings(trials=20, items=30, judged=40, **settings)  # type: ignore[arg-type]
    loaded = named_recipe(Path(recipe))
    return plan_evolution(loaded, loaded.root, chosen)


def test_answering_lies_on_the_line_through_what_was_measured():
    assert PACE.answering(10) == 4.0
    assert PACE.answering(30) == pytest.approx(8.0)
    assert PACE.answering(100) == pytest.approx(22.0)
    assert PACE.answering(5) == pytest.approx(2.0)
    assert replace(PACE, answers=((10, 4.0),)).answering(100) == pytest.approx(40.0)
    noisy = replace(PACE, answers=((10, 4.0), (50, 3.0)))  # more questions were faster, by chance
    assert noisy.answering(100) == 4.0


def test_the_spread_is_the_slowest_by_the_fastest_of_as_many_questions():
    assert spread_of([(4, 1.0), (16, 3.0), (16, 4.5), (16, 6.0)], 0.5) == pytest.approx(2.0)
    assert spread_of([(4, 1.0), (16, 9.0)], 0.0) == LEAST_SPREAD, "other numbers of questions do not compare"
    assert spread_of([(4, 1.0), (4, 1.0)], 1.0) == LEAST_SPREAD
    assert spread_of([(4, 1.0), (4, 1.0)], 2.0) == 2.0, "four processes share two cores"
    assert spread_of([(4, 1.0), (4, 1.0)], 60.0) == MOST_CROWDED
    assert means_of([(16, 3.0), (4, 1.0), (16, 5.0)]) == ((4, 1.0), (16, 4.0))


def test_a_forecast_is_a_range_that_the_spread_makes():
    found = forecast(scope_of(plan_of("zoo-vlm")), replace(PACE, spread=2.0))
    assert found.in_words(3600.0) == "0.5 to 2 h"
    assert found.in_words(600.0) == "5 to 20 min"
    assert found.in_words(0.1) == "under 1 s"


def test_a_second_stage_is_foretold_from_the_pace_of_the_first():
    recipe = named_recipe(Path("zoo-ps-dfs"))
    first, second = plan_stages(recipe, recipe.root, EvolveSettings(trials=20, items=30, judged=40))
    assert second is not None
    assert second.space is not None
    steps = [len(second.space.route(genome)) for genome in second.searcher().ask()]
    routed = pace_of_routes(PACE, second)
    factor = sum(steps) / len(steps) / 8  # the zoo's models have eight layers
    assert routed.answers[0] == (10, pytest.approx(4.0 * factor))
    assert (routed.merge, routed.start, routed.spread) == (0.0, 3 * PACE.load, ROUTED_SPREAD)
    found = forecast_stages(first, second, PACE, (0, 5))
    alone = forecast(scope_of(first), PACE)
    seconds = {name: seconds for name, _, seconds in found.phases}
    assert found.phases[: len(alone.phases)] == alone.phases
    assert seconds["then: search"] == pytest.approx(15 * 8.0 * factor), "20 trials, of which 5 are done"
    assert seconds["pool"] == pytest.approx(PACE.build + scope_of(first).bytes_out / WRITING)
    assert found.disk > alone.disk + scope_of(first).bytes_out
    assert "routes of" in found.whence


def test_every_phase_is_listed_and_their_times_add_up():
    found = forecast(scope_of(plan_of("zoo-vlm", checkpoint=True)), PACE)
    seconds = {name: seconds for name, _, seconds in found.phases}
    assert list(seconds) == [
        *("start", "task vectors", "search", "choice", "controls"),
        *("held out, sources", "held out, merges", "checkpoint", "end"),
    ]
    assert seconds["start"] == pytest.approx(10.0 + (30 + 40 + 80) * 0.5)
    assert seconds["search"] == pytest.approx(20 * (2.0 + 8.0))
    assert seconds["choice"] == pytest.approx(10 * (2.0 + 10.0))
    assert seconds["controls"] == pytest.approx(30 * (2.0 + 10.0)), "two sweeps of 11, TSV-M of 5, 3 sources reworded"
    assert seconds["held out, sources"] == pytest.approx(3 * (7.0 + 40 * 0.5 + 10.0))
    assert seconds["held out, merges"] == pytest.approx(7 * (2.0 + 10.0)), "the winner and six controls"
    assert found.seconds == pytest.approx(sum(seconds.values()))
    assert found.whence == "a stop watch"


def test_rivals_workers_and_trials_that_are_done_count():
    plain = {name: seconds for name, _, seconds in forecast(scope_of(plan_of("zoo-vlm")), PACE).phases}
    rivals = forecast(scope_of(plan_of("zoo-vlm", rivals=True)), PACE)
    named = {name: seconds for name, _, seconds in rivals.phases}
    assert named["random search"] == named["search"] == plain["search"]
    assert {"whole model", "choice of random search", "choice of whole model"} <= set(named)
    assert named["held out, merges"] == pytest.approx(plain["held out, merges"] / 7 * 9)
    done = {name: seconds for name, _, seconds in forecast(scope_of(plan_of("zoo-vlm"), logged=15), PACE).phases}
    assert done["search"] == pytest.approx(plain["search"] / 4)
    spread = forecast(scope_of(plan_of("zoo-vlm", workers=Workers("auto", 4))), PACE)
    assert {name: seconds for name, _, seconds in spread.phases}["search"] == pytest.approx(plain["search"] / 4)


def test_memory_and_disk_grow_with_what_is_kept():
    plan = plan_of("zoo-vlm")
    scope = replace(scope_of(plan), bytes_making=0)
    found = forecast(scope, PACE)
    assert found.host == 10**9 + scope.bytes_model
    assert scope.bytes_model == max(model.bytes_on("cpu") for model in plan.assembly.sources.values())
    whole = forecast(replace(scope, checkpoint=True), PACE)
    assert whole.disk == found.disk + scope.bytes_out
    assert forecast(replace(scope, bytes_vectors=0), PACE).disk == found.disk - scope.bytes_vectors
    log = found.disk - scope.bytes_vectors
    assert forecast(replace(scope, trials=2000), PACE).disk - scope.bytes_vectors > 2 * log
    on_gpu = forecast(scope, replace(PACE, gpu=5))
    assert (on_gpu.host, on_gpu.gpu) == (10**9, 5 + scope.bytes_model)


def test_task_vectors_are_a_phase_with_what_is_written():
    scope = scope_of(plan_of("zoo-tsv"))
    assert scope.prepared == ("tsv_m",), "the control's are of the same method"
    words, seconds = next(
        (work, seconds)
        for name, work, seconds in forecast(scope, replace(PACE, vectors=3.0)).phases
        if name == "task vectors"
    )
    assert words.startswith("those of tsv_m: prepare, write ")
    assert seconds == pytest.approx(3.0 + scope.bytes_vectors / WRITING)
    beside = forecast(replace(scope, bytes_making=10**12), PACE)
    assert beside.host == PACE.host + 10**12


def test_a_control_that_prepares_counts_beside_the_search():
    plan = plan_of("zoo-tsv")
    tsv = scope_of(plan).bytes_vectors
    iso = plan.recipe.model_copy(update={"method": "iso_c"})
    scope = scope_of(plan_evolution(iso, iso.root, plan.settings))
    assert scope.prepared == ("iso_c", "tsv_m")
    assert scope.bytes_vectors == pytest.approx(tsv * 4 / 3), "three sources have one vector"


def test_why_there_is_no_tsv_is_known_before():
    assert scope_of(plan_of("zoo-vlm")).no_tsv == ""
    routed = scope_of(plan_of("zoo-dfs"))
    assert "TSV-M merges tensors" in routed.no_tsv
    assert (routed.prepared, routed.bytes_vectors, routed.bytes_making) == ((), 0, 0)


def test_preparing_is_foretold_from_small_matrices():
    assert 0 < preparing_seconds(plan_of("zoo-tsv")) < 60
    assert preparing_seconds(plan_of("zoo-dfs")) == 0


def test_past_runs_are_scaled_and_named():
    run = PAST_RUNS[0]
    pace = past_pace("vlm", "cuda", 2 * run.parameters)
    assert pace.answers[0] == (run.pace.answers[0][0], pytest.approx(2 * run.pace.answers[0][1]))
    assert "H200" in pace.whence
    assert "no run on cpu is known" in past_pace("llm", "cpu", 1.0).whence


def test_models_that_are_absent_are_sized_by_their_names():
    recipe = named_recipe(Path("evollm-jp"))
    assert parameters_by_name(recipe) == 7.0
    scope = scope_of_absent(recipe, EvolveSettings(checkpoint=True, device="cuda"))
    assert (scope.models, scope.bytes_out) == (4, 14 * 10**9)
    assert scope.choosing == 49
    assert (scope.prepared, scope.bytes_vectors) == (("tsv_m",), 3 * 14 * 10**9)


def test_a_dry_run_says_that_it_does_not_count_what_a_race_saves(tmp_path: Path):
    words = ("evolve", "zoo-llm", "--out", "out", "--dry-run", "--no-measure")
    told = [evovlm_here(*words, *more, folder=tmp_path).stdout for more in ((), ("--race",))]
    assert ["a race and cheap first answers are not counted" in one for one in told] == [False, True]


def test_a_method_that_is_unknown_is_told_though_the_models_are_absent(tmp_path: Path):
    text = (ROOT / "recipes/zoo-vlm.yaml").read_text(encoding="utf-8").replace("zoo:ja", "owner/absent-3B")
    (tmp_path / "absent.yaml").write_text(text.replace("method: dare_ties", "method: dare_tise"), encoding="utf-8")
    done = evovlm_here("evolve", "absent.yaml", "--out", "out", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert "dare_tise" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_forecast_for_a_gpu_elsewhere_says_what_it_leaves_out(tmp_path: Path):
    done = evovlm_here(
        "evolve", "zoo-llm", "--out", "out", "--dry-run", "--no-measure", "--device", "cuda", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "GPU" in done.stdout
    assert "without preparing task vectors, which no GPU here can time" in " ".join(done.stdout.split())


def test_absent_models_are_an_error_after_an_estimate_from_a_past_run(tmp_path: Path):
    text = (ROOT / "recipes/zoo-vlm.yaml").read_text(encoding="utf-8").replace("zoo:ja", "owner/absent-3B")
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    done = evovlm_here("evolve", "r.yaml", "--out", "study", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert "--download" in done.stderr
    assert "from    a past run" in done.stdout
    assert "3 billion" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("word", "source"), [("--measure", "measured on this machine"), ("--no-measure", "a past run")]
)
def test_a_dry_run_says_where_its_numbers_are_from(tmp_path: Path, word: str, source: str):
    words = ("--trials", "4", "--items", "8", "--judged", "8", "--dry-run", word)
    done = evovlm_here("evolve", "zoo-llm", "--out", "study", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("search", "choice", "controls", "held out", "time ", "memory ", "disk ", f"from    {source}"):
        assert part in done.stdout, part
    assert re.search(r"^time    [\d.]+ to [\d.]+ (s|min|h|days)$", done.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())
