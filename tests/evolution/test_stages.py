"""Studies in data-flow space and in both spaces, on the zoo: what they leave, and that they go on where they were."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evovlm.cli import app
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.stages import bred_names, evolve_stages, plan_stages, second_stage
from evovlm.merging.assembly import assemble
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import RouteSpace
from evovlm.recipe.yaml_file import read_recipe
from evovlm.report import write_report
from evovlm.study import log as study_log
from evovlm.system.errors import RecipeError, StudyError
from tests.evolution.small_studies import Noting
from tests.evolution.small_studies import evolve as small_evolve
from tests.logged import logged_rows

pytestmark = pytest.mark.slow  # runs whole studies

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SMALL = EvolveSettings(trials=6, items=8, judged=10)


class Killed(BaseException):
    """As abrupt as a signal, for a process that must live on."""


class KillAfter:
    """Watches a study and kills it at a given step of a given search, counted over both stages."""

    def __init__(self, search: int, step: int) -> None:
        self._search, self._step = search, step
        self._searches, self._here = 0, False

    def phase(self, name: str, total: int) -> None:
        self._here = name == "search"
        self._searches += self._here

    def step(self, text: str, **figures: float | None) -> None:
        if self._here and self._searches == self._search:
            if self._step == 0:
                raise Killed
            self._step -= 1


def both() -> Recipe:
    return read_recipe(RECIPES / "zoo-ps-dfs.yaml")


def run(recipe: Recipe, out: Path, watch: Any = None, settings: EvolveSettings = SMALL) -> dict[str, Any]:
    return evolve_stages(recipe, RECIPES, settings, out, watch or KillAfter(99, 0)).content()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "whole"
    run(both(), out)
    return out


def test_the_second_stage_searches_routes_through_what_the_first_bred(whole: Path):
    best = read_recipe(whole / study_log.BEST)
    assert best.source_names == ("ps1", "ja", "math")
    assert best.owner == "ps1"
    assert [(step.source, step.layer) for step in best.route[:2]] == [("ps1", 0), ("ps1", 1)]
    bred = Path(best.sources[0].model)
    assert bred.parent == Path("pool"), "recipes of a study name its own models relative to it"
    bred = whole / bred
    assert read_recipe(bred / "recipe.yaml").method == "dare_ties"
    first = json.loads((whole / "stage-1" / study_log.RESULT).read_text(encoding="utf-8"))
    assert read_recipe(bred / "recipe.yaml").digest() == first["digest"]


@pytest.mark.slow
@pytest.mark.parametrize(("search", "step"), [(1, 3), (2, 3)])
def test_a_study_killed_in_either_stage_ends_with_the_same_logs(whole: Path, tmp_path: Path, search: int, step: int):
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        run(both(), out, KillAfter(search, step))
    killed = out / "stage-1" if search == 1 else out
    assert 0 < len(logged_rows(killed)) < 6
    run(both(), out)
    assert logged_rows(out / "stage-1") == logged_rows(whole / "stage-1")
    # The pools lie in different folders, and a recipe names its models: all but the digests must agree.
    for mine, theirs in zip(logged_rows(out), logged_rows(whole), strict=True):
        assert {**mine, "digest": ""} == {**theirs, "digest": ""}


def test_a_finished_study_in_stages_does_nothing_twice(whole: Path):
    before = {
        path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file() and "events" not in path.name
    }
    run(both(), whole)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_study_in_stages_can_be_extended(place: Path):
    """More trials of the first stage would choose another merge than the second has searched."""
    small_evolve(place, "two", "two-stage.yaml", trials=2)
    first, pool = logged_rows(place / "two/stage-1"), sorted((place / "two/pool").iterdir())
    for trials in (4, 9):
        watch = Noting()
        small_evolve(place, "two", "two-stage.yaml", watch, trials=trials)
        assert watch.notes == [
            f"{place / 'two/stage-1'}: stays at 2 trials, because the second stage searches the merges that they chose;"
            " for more trials of the first stage choose a new folder with --out"
        ]
        assert logged_rows(place / "two/stage-1") == first
        assert sorted((place / "two/pool").iterdir()) == pool
        assert len(logged_rows(place / "two")) == trials
    recipe = read_recipe(place / "two-stage.yaml")
    assert recipe.search is not None
    assert recipe.then is not None
    longer = recipe.then.model_copy(update={"search": recipe.then.search.model_copy(update={"trials": 11})})
    small_evolve(place, "two", recipe.model_copy(update={"then": longer}), trials=None)
    assert (len(logged_rows(place / "two/stage-1")), len(logged_rows(place / "two"))) == (2, 11)


def test_a_search_that_switches_after_half_of_its_trials_can_be_extended(place: Path):
    """The half is that of the number which the study was begun with."""
    recipe = read_recipe(place / "two-stage.yaml")
    assert recipe.then is not None
    search = recipe.then.search.model_copy(update={"algorithm": "two_stage", "population": 4, "route": RouteSpace()})
    routes = recipe.model_copy(update={"then": None, "search": search, "method": "passthrough"})
    small_evolve(place, "r", routes, trials=8)
    before = logged_rows(place / "r")
    small_evolve(place, "r", routes, trials=16)
    assert logged_rows(place / "r")[:8] == before
    assert len(logged_rows(place / "r")) == 16


def test_a_study_whose_first_stage_was_extended_goes_on_with_the_merges_that_it_has(place: Path):
    """Earlier versions extended it, and then refused their own choice."""
    small_evolve(place, "two", "two-stage.yaml", trials=2)
    pool = sorted((place / "two/pool").iterdir())
    recipe = read_recipe(place / "two-stage.yaml").model_copy(update={"then": None})
    small_evolve(place, "two/stage-1", recipe, trials=9)
    shutil.rmtree(pool[0])
    small_evolve(place, "two", "two-stage.yaml", trials=9, judged=4)
    assert sorted((place / "two/pool").iterdir()) == pool
    assert len(logged_rows(place / "two")) == 9


def test_a_merge_of_the_first_stage_that_cannot_be_made_again_is_told(place: Path):
    small_evolve(place, "two", "two-stage.yaml", trials=2)
    pool = next((place / "two/pool").iterdir())
    shutil.rmtree(pool)
    shutil.rmtree(place / "two/stage-1")
    recipe = read_recipe(place / "two-stage.yaml")
    other = recipe.model_copy(
        update={"seed": 5, "search": recipe.search and recipe.search.model_copy(update={"seed": 5})}
    )
    with pytest.raises(
        StudyError, match=rf"pool/{pool.name}: missing, and .*stage-1/trials.jsonl has no such candidate"
    ):
        small_evolve(place, "two", other, trials=2)


def test_another_number_of_merges_is_refused(place: Path):
    small_evolve(place, "two", "two-stage.yaml", trials=3)
    recipe = read_recipe(place / "two-stage.yaml")
    assert recipe.then is not None
    more = recipe.model_copy(update={"then": recipe.then.model_copy(update={"winners": 2})})
    with pytest.raises(StudyError, match=r"searches 1 merges of the first, and `then.winners` asks for 2 now"):
        small_evolve(place, "two", more, trials=3)


def test_merge_builds_the_winner_of_both_stages(whole: Path, tmp_path: Path):
    done = CliRunner().invoke(app, ["merge", str(whole / "best.yaml"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    layers = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    assert layers == len(read_recipe(whole / study_log.BEST).route)


def test_the_held_out_table_shows_the_route_without_its_scales(whole: Path):
    table = json.loads((whole / study_log.RESULT).read_text(encoding="utf-8"))["held_out"]
    assert set(table["sources"]) == {"ps1", "ja", "math"}
    scaled = any(step.scale != 1.0 for step in read_recipe(whole / study_log.BEST).route)
    assert ("without_scales" in table["controls"]) == scaled
    assert {"layers_of_ja", "layers_of_math"} <= set(table["controls"])


def test_the_report_draws_the_route(whole: Path):
    page = write_report(whole).read_text(encoding="utf-8")
    assert "The best route passes" in page
    assert "<h2>The best route</h2><p>ps1 0" in page


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["hybrid", "two_stage"])
def test_a_search_for_routes_goes_on_bit_for_bit(tmp_path: Path, algorithm: str):
    recipe = read_recipe(RECIPES / "zoo-dfs.yaml")
    assert recipe.search is not None
    search = recipe.search.model_copy(update={"algorithm": algorithm, "population": 4, "switch": 4})
    recipe = recipe.model_copy(update={"search": search})
    settings = EvolveSettings(trials=10, items=4, judged=4)
    run(recipe, tmp_path / "whole", settings=settings)
    with pytest.raises(Killed):
        run(recipe, tmp_path / "killed", KillAfter(1, 6), settings)
    assert len(logged_rows(tmp_path / "killed")) == 7
    run(recipe, tmp_path / "killed", settings=settings)
    assert logged_rows(tmp_path / "killed") == logged_rows(tmp_path / "whole")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study of three objectives: maths, the number of layers, and questions about images."""
    out = tmp_path_factory.mktemp("several") / "s"
    content = {
        "kind": "vlm",
        "sources": [{"name": "vlm", "model": "zoo:vlm"}, {"name": "ja", "model": "zoo:ja"}],
        "owner": "vlm",
        "method": "passthrough",
        "search": {
            "algorithm": "nsga2",
            "population": 8,
            "objectives": ["layers", "zoo-maths:search"],
            "route": {"repeats": 1, "ordered": True},
        },
        "data": {"search": "zoo-vqa:search", "validation": "zoo-vqa:validation", "test": "zoo-vqa:test"},
    }
    return out, run(Recipe.model_validate(content), out, settings=EvolveSettings(trials=24, items=8, judged=8))


def test_every_point_of_the_front_is_a_recipe_that_merge_takes(several: tuple[Path, dict[str, Any]]):
    out, result = several
    front = result["front"]
    assert front["objectives"] == ["score", "layers", "zoo-maths:search"]
    assert front["points"]
    for point in front["points"]:
        recipe = read_recipe(out / point["recipe"])
        assert -len(recipe.route) == point["values"]["layers"]
        assemble(recipe, out)
    ranked = [tuple(point["values"].values()) for point in front["points"]]
    for one in ranked:
        assert not any(all(a >= b for a, b in zip(other, one, strict=True)) and other != one for other in ranked)


def test_the_hypervolume_grows_and_the_page_draws_the_front(several: tuple[Path, dict[str, Any]]):
    out, result = several
    volumes = result["front"]["hypervolume"]
    assert volumes == sorted(volumes)
    assert len(volumes) == 3
    page = write_report(out).read_text(encoding="utf-8")
    assert "Pareto front" in page
    assert "Hypervolume from" in page


def test_latency_is_measured_anew_for_each_candidate_and_goes_on_after_a_stop(tmp_path: Path):
    recipe = read_recipe(RECIPES / "zoo-dfs.yaml")
    assert recipe.search is not None
    change = {"algorithm": "nsga2", "population": 4, "objectives": ("latency", "layers")}
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update=change)})
    settings = EvolveSettings(trials=8, items=4, judged=4)
    with pytest.raises(Killed):
        run(recipe, tmp_path, KillAfter(1, 5), settings)
    measured = logged_rows(tmp_path)
    front = run(recipe, tmp_path, settings=settings)["front"]
    trials = study_log.read_trials(tmp_path)
    assert logged_rows(tmp_path)[: len(measured)] == measured, "what was measured before the stop stays"
    for trial in trials:
        answering = sum(trial.seconds.get(phase, 0.0) for phase in ("prefill", "decode", "answer"))
        assert trial.values[1] == pytest.approx(-1000 * answering / 4), "milliseconds an answer"
    assert len({trial.values[1] for trial in trials}) > 1
    assert not (tmp_path / study_log.CACHE).exists(), "a cached answer has no latency"
    assert front["objectives"] == ["score", "latency", "layers"]
    assert all(point["values"]["latency"] < 0 for point in front["points"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objectives": ["layers"]}, "hybrid supports one score, not 2; use `nsga2`"),
        ({"objectives": ["depth"], "algorithm": "nsga2"}, r"objective 'depth'; choose from \['latency', 'layers'\]"),
        ({"objectives": ["zoo-vqa:test"], "algorithm": "nsga2"}, "zoo-vqa:test is a test set"),
        ({"route": {"prefix": {"source": "ja", "layers": 9}}}, "9 layers of ja, which has 8"),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_any_work(change: dict[str, Any], told: str):
    recipe = read_recipe(RECIPES / "zoo-dfs.yaml")
    assert recipe.search is not None
    content = recipe.search.model_dump(mode="json", by_alias=True) | change
    with pytest.raises(RecipeError, match=told):
        plan_evolution(Recipe.model_validate(recipe.model_dump(by_alias=True) | {"search": content}), RECIPES, SMALL)


def test_stages_in_the_wrong_order_are_refused():
    recipe = both()
    assert recipe.then is not None
    flat = recipe.then.search.model_copy(update={"route": None})
    with pytest.raises(RecipeError, match="the second stage searches routes"):
        plan_stages(recipe.model_copy(update={"then": recipe.then.model_copy(update={"search": flat})}), RECIPES, SMALL)
    with pytest.raises(RecipeError, match="the first stage searches weights"):
        plan_stages(recipe.model_copy(update={"search": recipe.then.search}), RECIPES, SMALL)


def test_a_mistake_in_the_second_stages_search_is_called_by_its_key_there():
    recipe = both()
    assert recipe.then is not None
    many = recipe.then.search.model_copy(update={"objectives": ("depth",), "algorithm": "nsga2"})
    with pytest.raises(RecipeError, match=r"^then\.search\.objectives: unknown objective 'depth'"):
        plan_stages(recipe.model_copy(update={"then": recipe.then.model_copy(update={"search": many})}), RECIPES, SMALL)


def test_a_source_may_have_the_name_that_the_second_stage_would_give():
    sources = [{"name": "ps1", "model": "zoo:ja"}, {"name": "ps3", "model": "zoo:math"}]
    recipe = Recipe.model_validate(
        both().model_dump(mode="json", by_alias=True)
        | {
            "sources": sources,
            "owner": "ps1",
            "parameters": {},
            "then": {"winners": 3, "search": {"trials": 2, "route": {}}},
        }
    )
    assert bred_names(recipe, 3) == ["ps2", "ps4", "ps5"]
    made = second_stage(recipe, [recipe.sources[0].model_copy(update={"name": name}) for name in bred_names(recipe, 3)])
    assert made.source_names == ("ps2", "ps4", "ps5", "ps1", "ps3")
    assert bred_names(both(), 2) == ["ps1", "ps2"]
