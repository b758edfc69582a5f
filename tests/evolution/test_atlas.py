"""The atlas of a real study on the zoo: made from its log, rebuildable, the same after a restart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evovlm.evolution._atlas import axes_of
from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.yaml_file import read_recipe
from evovlm.report import write_report
from evovlm.search.race import RaceSettings
from evovlm.study.result import Result
from evovlm.system.errors import RecipeError

pytestmark = pytest.mark.slow  # runs whole studies

RECIPES = Path(__file__).parent.parent.parent / "recipes"


class Silent:
    def phase(self, name: str, total: int) -> None: ...

    def step(self, text: str, **figures: float | None) -> None: ...


def bred(out: Path, trials: int) -> Result:
    settings = EvolveSettings(trials=trials, items=20, judged=6, keep_diverse=True)
    return evolve(plan_evolution(read_recipe(RECIPES / "zoo-llm.yaml"), RECIPES, settings), out, Silent())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("atlas") / "study"
    bred(out, 2)
    bred(out, 4)
    return out


def test_each_cell_holds_the_best_of_its_profile(study: Path):
    atlas = json.loads((study / "atlas.json").read_text())
    trials = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    assert atlas["trials"] == 4
    assert atlas["cells"]
    assert max(cell["score"] for cell in atlas["cells"]) == pytest.approx(max(trial["score"] for trial in trials))
    for cell in atlas["cells"]:
        assert trials[cell["trial"]]["score"] == pytest.approx(cell["score"])
        assert cell["cell"] == [min(9, int(cell["profile"][axis] / 10)) for axis in atlas["axes"]]
        assert read_recipe(study / cell["recipe"]).parameters


def test_a_cells_recipe_builds_the_merge_that_was_judged(study: Path, tmp_path: Path):
    cell = json.loads((study / "atlas.json").read_text())["cells"][0]
    path = study / cell["recipe"]
    report = build_checkpoint(assemble(read_recipe(path), path.parent), tmp_path / "merged")
    assert report.tensors > 0
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_the_same_log_gives_the_same_atlas_and_generates_nothing(study: Path, monkeypatch: pytest.MonkeyPatch):
    from evovlm.engines.hf import Engine

    before = (study / "atlas.json").read_bytes()
    (study / "atlas.json").unlink()
    monkeypatch.setattr(Engine, "answer", lambda *arguments: pytest.fail("an answer was generated again"))
    bred(study, 4)
    assert (study / "atlas.json").read_bytes() == before


def test_the_report_shows_the_atlas(study: Path):
    page = write_report(study).read_text(encoding="utf-8")
    assert "Atlas of merges" in page
    assert 'id="plot-atlas"' in page
    assert "atlas/cell-" in page


def test_objectives_that_are_tasks_make_the_profile():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    assert recipe.search is not None
    search = recipe.search.model_copy(update={"objectives": ("layers", "zoo-maths:search")})
    axes = axes_of(recipe.model_copy(update={"search": search}), [])
    assert [(axis.name, axis.objective) for axis in axes] == [("score", 0), ("zoo-maths:search", 2)]


def test_what_cannot_have_an_atlas_is_refused():
    recipe = read_recipe(RECIPES / "zoo-llm.yaml")
    settings = EvolveSettings(trials=4, items=8, judged=2, keep_diverse=True, race=RaceSettings())
    with pytest.raises(RecipeError, match=r"--keep-diverse: a race asks few items.* leave out --race"):
        plan_evolution(recipe, RECIPES, settings)
    assert recipe.search is not None
    raced = recipe.model_copy(update={"search": recipe.search.model_copy(update={"race": True})})
    with pytest.raises(RecipeError, match=r"a race asks few items.* set `race: false` below `search`"):
        plan_evolution(raced, RECIPES, replace(settings, race=None))
