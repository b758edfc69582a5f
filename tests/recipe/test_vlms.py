"""Two vision-language models of one family, merged by a mergekit file: their language towers, or the whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from evovlm import evaluate
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.open_model import open_model, with_vision
from evovlm.recipe.mergekit import read_mergekit
from evovlm.recipe.schema import Recipe
from evovlm.recipe.vlms import as_vlms
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import RecipeError
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

FILE = """\
merge_method: linear
models:
  - {model: one, parameters: {weight: 0.5}}
  - {model: two, parameters: {weight: 0.25}}
parameters: {normalize: false}
tokenizer_source: one
dtype: float32
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LLaVA models, in the hub's layout and in that of memory."""
    folder = tmp_path_factory.mktemp("models")
    base = save_llm(folder / "base", rows=600, tokenizer=make_tokenizer(600))
    for seed, name in enumerate(("one", "two")):
        tokenizer = make_tokenizer(600, added=("<image>", "<pad>"))
        shared = {"next_": False, "rows": 640, "tokenizer": tokenizer, "ancestor": base, "seed": seed}
        save_vlm(folder / name, **shared, original_format=seed == 0)
    (folder / "m.yml").write_text(FILE)
    return folder


def test_without_the_flag_the_check_names_it(models: Path):
    with pytest.raises(RecipeError, match="say with --vlms what is to be merged"):
        assemble(read_recipe(models / "m.yml"), models)


@pytest.mark.parametrize("what", ["tower", "whole"])
def test_every_tensor_is_the_sum_or_the_owners(models: Path, tmp_path: Path, what: str):
    recipe = as_vlms(read_mergekit(FILE, models / "m.yml"), what)
    build_checkpoint(assemble(recipe, models), tmp_path / "out")
    made = load_file(tmp_path / "out" / "model.safetensors")
    one, two = (with_vision(open_model(name, name, None, models)) for name in ("one", "two"))
    assert set(made) == set(one.checkpoint.keys())
    seen = 0
    for name, key in one.tower.items():
        a, b = one.checkpoint.tensor(key).double(), two.checkpoint.tensor(two.tower[name]).double()
        vision = key.startswith(("vision_tower.", "multi_modal_projector."))
        seen += vision
        wanted = a if vision and what == "tower" else 0.5 * a + 0.25 * b
        # Rows that only padding has are the owner's.
        rows = slice(602) if name in ("model.embed_tokens.weight", "lm_head.weight") else slice(None)
        assert torch.allclose(made[key].double()[rows], wanted[rows], atol=1e-7), key
    assert seen > 40
    _, report = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert Recipe.read(tmp_path / "out" / "recipe.yaml").vision == ("merged" if what == "whole" else "owner")


def test_whole_models_of_two_families_are_refused(models: Path, tmp_path: Path):
    tokenizer = make_tokenizer(600, added=("<image>", "<pad>"))
    other = save_vlm(tmp_path / "next", next_=True, rows=640, tokenizer=tokenizer, ancestor=models / "base")
    file = FILE.replace("two", str(other))
    with pytest.raises(RecipeError, match="whole models can be merged only within one family"):
        assemble(as_vlms(read_mergekit(file, models / "m.yml"), "whole"), models)


def test_a_merged_vision_part_cannot_be_searched_or_asked_in_memory(models: Path):
    whole = as_vlms(read_mergekit(FILE, models / "m.yml"), "whole").counted_from(models)
    with pytest.raises(RecipeError, match="merge to a folder"):
        evaluate(whole, "zoo-vqa:test", items=2)
    content = json.loads(whole.model_dump_json(by_alias=True)) | {"search": {}}
    with pytest.raises(
        ValueError, match="only plain merges of kind `vlm` merge the vision part, and there is `search`"
    ):
        Recipe.model_validate(content)
    with pytest.raises(RecipeError, match="--vlms: unknown value 'all'"):
        as_vlms(whole, "all")
