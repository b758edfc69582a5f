"""The recipes that come with evovlm are valid, and those of the paper say what the paper says."""

import re
from pathlib import Path

import pytest

from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe import shipped
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import find_file, means_recipe, named_recipe, shipped_recipes
from evovlm.recipe.yaml_file import read_recipe, recipe_text
from evovlm.search.space.parameters import genes_of
from evovlm.system.errors import RecipeError
from evovlm.tasks import Options, parse_split
from tests.parameters import slow_but

RECIPES = Path(__file__).parent.parent.parent / "recipes"
MISTRAL_LAYERS = 32
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
# As of commit 368cf2f. Checkpoints, caches and studies name recipes by these: a key that the schema gains since must be
# marked LATER. Only a change to the merge that a recipe describes may change its row; a new recipe gets one.
DIGESTS = {
    "evollm-jp-dfs.yaml": "bf8fce26cc99251e65c2aea46ec98875",
    "evollm-jp.yaml": "c72c56e0818be2500e4f8999b58cd8bc",
    "evovlm-jp.yaml": "9f4d2e823f26c25c858523ab21e6a5a6",
    "internvl3-abeja.yaml": "5f06de86431dc03350c4b5bf6aeb27ee",
    "paligemma2-jpn.yaml": "ea7670a058340aababdff036dde04b8f",
    "pixtral-shisa.yaml": "84179bb42c3882135eca3ebe3e5d14ec",
    "qwen2.5-maths-ja.yaml": "8cda543a556cb421245bda0d262d9dd7",
    "qwen2.5-vl-abeja.yaml": "3ebf64cc481a22e7a88ee744f826e52c",
    "qwen3-vl-swallow.yaml": "90b6eb7cd99c8e5af29402b3fc0267bf",
    "zoo-dfs.yaml": "968209c754384a358a11f722f75962b6",
    "zoo-llm.yaml": "8bc605b5973864502db90b38a459a2f0",
    "zoo-medium-vlm.yaml": "499504f545869b1f684dd6843e574191",
    "zoo-ps-dfs.yaml": "85ca83e775ec1c9af0e8c33b37044034",
    "zoo-tsv.yaml": "df9b48a5ce556dec97180ea57429e6ae",
    "zoo-vlm.yaml": "959de281c7f8788dbbab852eb8cf9193",
}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_valid_and_can_be_searched(path: Path):
    recipe = read_recipe(path)
    assert recipe.search is not None
    assert recipe.data is not None


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_digest_of_every_recipe_is_what_it_always_was(path: Path):
    assert read_recipe(path).digest() == DIGESTS[path.name]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_model_of_the_hub_has_a_dated_source_and_a_licence_or_says_that_it_is_not_verified(path: Path):
    recipe = read_recipe(path)
    said = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"#   (\S+/\S+)  +([^;]+); (.+)", line):
            said[found[1]] = (found[2], found[3])
    ids = [model for model in models(recipe) if not model.startswith(("zoo:", "../"))]
    ids += [] if recipe.base is None or recipe.base.model.startswith(("zoo:", "../")) else [recipe.base.model]
    assert set(said) == set(ids)
    for source, licence in said.values():
        assert "[check]" in source or re.fullmatch(rf"\S+, ({MONTHS}) 20\d\d", source)
        assert "[check]" in licence or licence == "Apache-2.0"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_search_on_visual_genome_draws_its_questions(path: Path):
    """All of its 790,000 would be asked of each candidate otherwise."""
    recipe = read_recipe(path)
    if recipe.data is not None and recipe.data.search.startswith("ja-vg-vqa-search"):
        assert recipe.search is not None
        assert (recipe.search.items, recipe.search.race, recipe.data.whole_pictures) == (256, True, True)


@pytest.mark.parametrize(("name", "genes"), [("evovlm-jp", 40), ("evollm-jp", 60)])
def test_the_papers_merges_have_the_papers_search(name: str, genes: int):
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.base is not None
    assert recipe.base.model == "mistralai/Mistral-7B-v0.1"
    assert (recipe.method, recipe.options.normalize) == ("dare_ties", True)
    assert recipe.search is not None
    assert (recipe.search.trials, recipe.search.start) == (1000, 0.5)
    assert recipe.search.sigma == pytest.approx(1 / 6, abs=1e-6)
    assert recipe.search.population is None
    # A weight and a density for ten groups a source, as the recipe's comments tell.
    assert len(genes_of(recipe, MISTRAL_LAYERS)) == genes


def models(recipe: Recipe) -> list[str]:
    return [source.model for source in recipe.sources]


def test_the_vlm_recipe_gives_the_japanese_model_the_eyes_of_llava():
    recipe = read_recipe(RECIPES / "evovlm-jp.yaml")
    assert models(recipe) == ["llava-hf/llava-v1.6-mistral-7b-hf", "augmxnt/shisa-gamma-7b-v1"]
    assert (recipe.kind, recipe.owner) == ("vlm", "vlm")


def test_the_maths_recipe_merges_the_papers_three_models():
    recipe = read_recipe(RECIPES / "evollm-jp.yaml")
    assert models(recipe) == ["augmxnt/shisa-gamma-7b-v1", "WizardLM/WizardMath-7B-V1.1", "GAIR/Abel-7B-002"]
    assert (recipe.kind, recipe.owner) == ("llm", "ja")


def test_the_papers_routes_have_the_papers_search():
    recipe = read_recipe(RECIPES / "evollm-jp-dfs.yaml")
    assert recipe.search is not None
    assert recipe.search.route is not None
    assert recipe.search.route.repeats == 3
    assert (recipe.search.algorithm, recipe.search.population) == ("cmaes", 128)
    assert recipe.search.trials == 128 * 100


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_names_tasks_and_presets_that_there_are(path: Path):
    data = read_recipe(path).data
    assert data is not None
    for where in (data.search, data.validation, data.test):
        if where is not None:
            task, split = parse_split(where, Options(preset=data.preset), RECIPES)
            assert split in task.splits
            assert (split in task.test_splits) == (where == data.test)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_is_found_by_name(place: Path):
    assert list(shipped_recipes()) == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    for name in shipped_recipes():
        assert means_recipe(name)
        assert named_recipe(name) == read_recipe(RECIPES / f"{name}.yaml")


def test_a_wheels_recipes_come_before_those_beside_the_package(place: Path, monkeypatch: pytest.MonkeyPatch):
    package = place / "site" / "evovlm" / "recipe"
    (package / "shipped").mkdir(parents=True)
    (place / "site" / "recipes").mkdir()
    for folder, name in ((package / "shipped", "wheel"), (place / "site" / "recipes", "clone")):
        (folder / f"{name}.yaml").write_text("", encoding="utf-8")
    monkeypatch.setattr(shipped, "__file__", str(package / "shipped.py"))
    assert list(shipped_recipes()) == ["wheel"]
    (package / "shipped" / "wheel.yaml").unlink()
    with pytest.raises(RecipeError, match="reinstall evovlm"):
        shipped_recipes()
    (package / "shipped").rmdir()
    assert list(shipped_recipes()) == ["clone"]


def test_a_file_of_the_users_comes_before_a_shipped_recipe_and_a_folder_does_not(place: Path):
    (place / "zoo-vlm").mkdir()
    assert find_file("zoo-vlm", shipped_recipes(), "recipe") == shipped_recipes()["zoo-vlm"]
    assert not means_recipe("zoo-vlm")  # a folder of that name is a model
    text = (RECIPES / "zoo-llm.yaml").read_text(encoding="utf-8").replace("dare_ties", "ties")
    (place / "zoo-llm").write_text(text, encoding="utf-8")
    assert named_recipe("zoo-llm").method == "ties"
    assert named_recipe("zoo-llm").root == place


def test_what_is_no_recipe_is_told_with_the_names(place: Path):
    for named in ("zoo", "zoo-vlm.yaml", "recipes/zoo-vlm.yaml"):
        with pytest.raises(
            RecipeError, match=rf"^{named}: no such recipe file; .*choose from \['evollm-jp', .*, 'zoo-vlm'\]"
        ):
            named_recipe(named)
    with pytest.raises(RecipeError, match="it is a folder, not a file"):
        named_recipe(place)


@pytest.mark.parametrize("recipes", slow_but(("missing", "a folder", "a file"), ("a folder",)))
def test_a_recipe_by_name_counts_its_folders_as_if_it_lay_in_recipes(place: Path, recipes: str):
    (place / "medium-zoo").mkdir()
    for name in ("base", "vlm", "ja"):
        (place / "medium-zoo" / name).symlink_to(zoo_folder(name))
    if recipes == "a folder":
        (place / "recipes").mkdir()
    elif recipes == "a file":
        (place / "recipes").write_text("", encoding="utf-8")
    recipe = named_recipe("zoo-medium-vlm")
    assert recipe.base is not None
    assert recipe.base.model == "../medium-zoo/base"
    built = build_checkpoint(assemble(recipe, recipe.root), place / "out" / "merged")
    again = read_recipe(built.folder / "recipe.yaml")  # written for where it lies now
    second = build_checkpoint(assemble(again, again.root), place / "second")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (built.folder, second.folder)]
    assert weights[0] == weights[1]


def test_a_recipe_by_name_counts_its_data_from_the_working_directory(place: Path):
    data = named_recipe("evovlm-jp").data
    assert data is not None
    task, _ = parse_split(data.search, Options(preset=data.preset), named_recipe("evovlm-jp").root)
    with pytest.raises(Exception, match=r"\bdata/ja-vg-vqa\b") as raised:
        task.items("search", 1, 0)
    assert "recipes" not in str(raised.value)


def test_what_a_recipe_counts_from_is_no_part_of_it(place: Path):
    recipe = named_recipe("zoo-vlm")
    other = recipe.counted_from(place)
    assert (recipe.root, other.root) == (place / "recipes", place)
    assert other.model_copy(update={"seed": 1}).root == place
    assert other == recipe
    assert other.digest() == recipe.digest()
    assert recipe_text(other) == recipe_text(recipe)
    assert other.model_dump() == recipe.model_dump()
