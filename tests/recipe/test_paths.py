"""Every path that a recipe names leads to the same place, however the recipe itself is named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evovlm.models.open_model import resolve_folder
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import named_recipe
from evovlm.recipe.yaml_file import moved, read_recipe, write_recipe
from evovlm.tasks import parse_split
from evovlm.tasks.item_sets import read_item_sets

RECIPE = """\
kind: vlm
base: {model: ../models/base}
sources:
  - {name: vlm, model: ../models/vlm}
  - {name: ja, model: ../models/./extra/../ja}
owner: vlm
method: dare_ties
search: {objectives: ["custom-vqa@../data/own/more.jsonl:search"]}
data:
  search: ja-vg-vqa-search@../data/vg:search
  validation: custom-vqa@../data/own/linked.jsonl:validation
  test: custom-vqa@../data/final:test
  preset: greedy+../presets/short.yaml
"""
MERGEKIT = """\
merge_method: linear
dtype: float32
models:
  - {model: ../models/base, parameters: {weight: 1.0}}
  - {model: ../models/ja, parameters: {weight: 1.0}}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with recipes, models and data side by side, as in a clone."""
    root = tmp_path / "clone"
    (root / "recipes").mkdir(parents=True)
    (root / "recipes" / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    (root / "recipes" / "theirs.yml").write_text(MERGEKIT, encoding="utf-8")
    (root / "models" / "extra").mkdir(parents=True)
    for name in ("base", "vlm", "ja"):
        (root / "models" / name).symlink_to(zoo_folder(name))
    (root / "presets").mkdir()
    (root / "presets" / "short.yaml").write_text("max_new_tokens: 7", encoding="utf-8")
    own, final, vg = (root / "data" / name for name in ("own", "final", "vg"))
    for folder in (own / "images", final / "images", vg / "images"):
        folder.mkdir(parents=True)
    for key in range(1, 40):
        Image.new("RGB", (40, 30), (6 * key, 250 - 6 * key, 3 * key)).save(vg / "images" / f"{key}.png")
    rows = ",".join(f'{{"id": {key}, "qas": [{{"question": "{key}？", "answer": "犬"}}]}}' for key in range(1, 40))
    (vg / "question_answers.json").write_text(f"[{rows}]", encoding="utf-8")
    (vg / "test_image_ids.txt").write_text("39", encoding="utf-8")
    for folder, name in ((final, "test"), (own, "more"), (own, "validation")):
        Image.effect_noise((64, 48), 90).save(folder / "images" / f"{name}.png")
        row = f'{{"id": "{name}", "question": "？", "reference": "犬", "image": "images/{name}.png"}}\n'
        (folder / f"{name}.jsonl").write_text(row, encoding="utf-8")
    # As in the hub's cache, where a file is a link to one whose name has no suffix.
    (own / "validation.jsonl").rename(own / "blob")
    (own / "linked.jsonl").symlink_to("blob")
    return root


def by_relative_path(clone: Path) -> Path:
    os.chdir(clone)
    return Path("recipes/mine.yaml")


def with_a_dot(clone: Path) -> Path:
    os.chdir(clone)
    return Path("./recipes/./mine.yaml")


def with_dots(clone: Path) -> Path:
    os.chdir(clone / "data" / "own")
    return Path("../../recipes/../recipes/mine.yaml")


def from_its_own_folder(clone: Path) -> Path:
    os.chdir(clone / "recipes")
    return Path("mine.yaml")


def by_absolute_path(clone: Path) -> Path:
    os.chdir("/")
    return clone / "recipes" / "mine.yaml"


def through_a_link_to_the_clone(clone: Path) -> Path:
    os.chdir(clone.parent)
    Path("linked").symlink_to("clone")
    return Path("linked/recipes/mine.yaml")


def through_a_link_to_the_recipes(clone: Path) -> Path:
    elsewhere = clone.parent / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)
    Path("recipes").symlink_to(clone / "recipes")
    return Path("recipes/mine.yaml")


def as_a_link_beside_the_recipe(clone: Path) -> Path:
    os.chdir(clone)
    Path("recipes/link.yaml").symlink_to("mine.yaml")
    return Path("recipes/link.yaml")


WAYS = [
    by_relative_path,
    with_a_dot,
    with_dots,
    from_its_own_folder,
    by_absolute_path,
    through_a_link_to_the_clone,
    through_a_link_to_the_recipes,
    as_a_link_beside_the_recipe,
]


def leads_everywhere(recipe: Recipe) -> list[str]:
    """Open everything that a recipe names, from another working directory; returns the ids of all items."""
    os.chdir("/")
    assert recipe.base is not None
    for model in (recipe.base.model, *(source.model for source in recipe.sources)):
        folder = resolve_folder(model, None, recipe.root)
        assert folder.is_absolute()
        assert (folder / "config.json").is_file()
    sets = read_item_sets(recipe, recipe.root, count=None, seed=0, judged=None, download=False)
    assert recipe.search is not None
    further, split = parse_split(recipe.search.objectives[0], None, recipe.root)
    assert sets.validation is not None
    assert sets.search.task.generation.max_new_tokens == 7
    items = [*sets.search, *sets.validation, *sets.test, *further.items(split, None, 0)]
    assert all(item.image is not None and item.image().mode == "RGB" for item in items)
    return [item.id for item in items]


@pytest.fixture(autouse=True)
def back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Return to the working directory after each test."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_models_data_and_images_are_found(clone: Path, way: Callable[[Path], Path]):
    ids = leads_everywhere(named_recipe(way(clone)))
    assert {"validation", "test", "more"} < set(ids)
    assert len([name for name in ids if name.startswith("vg-")]) > 20


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_recipe_written_elsewhere_leads_to_the_same_files(clone: Path, way: Callable[[Path], Path]):
    recipe = named_recipe(way(clone))
    there = clone.parent / "runs" / "one"
    there.mkdir(parents=True)
    write_recipe(moved(recipe, recipe.root, there), there / "best.yaml")
    assert str(clone) not in (there / "best.yaml").read_text(encoding="utf-8")
    assert leads_everywhere(read_recipe(there / "best.yaml")) == leads_everywhere(recipe)


def test_a_mergekit_recipe_finds_its_models_too(clone: Path):
    os.chdir(clone)
    recipe = named_recipe("recipes/theirs.yml")
    os.chdir("/")
    for source in recipe.sources:
        assert (resolve_folder(source.model, None, recipe.root) / "config.json").is_file()


def test_a_folder_that_a_command_names_counts_from_the_working_directory(clone: Path):
    os.chdir(clone / "recipes")
    task, split = parse_split("ja-vg-vqa-search@../data/vg:search")
    items = task.items(split, None, 0)
    os.chdir("/")
    assert items[0].image is not None
    assert items[0].image().size == (40, 30)
