"""Merges of checkpoints in the hub's own layouts, from recipe to a folder that transformers loads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint, output_tensors
from evovlm.methods import METHODS
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import CheckpointError, RecipeError
from tests.methods.merging import as_many


@pytest.fixture(scope="module")
def paper(paper_of_few_tokens: dict[str, Path]) -> dict[str, Path]:
    """A small vocabulary makes the many merges here quick."""
    return paper_of_few_tokens


def recipe(paper: dict[str, Path], kind: str = "vlm", **changes: Any) -> Recipe:
    sources = as_many(changes.get("method", "dare_ties"), ("vlm", "ja") if kind == "vlm" else ("ja", "math"))
    content: dict[str, Any] = {
        "kind": kind,
        "base": {"model": str(paper["base"])},
        "sources": [{"name": name, "model": str(paper[name])} for name in sources],
        "owner": sources[0],
        "method": "dare_ties",
        "parameters": {name: {"weight": 0.6, "density": 0.7} for name in sources},
        "dtype": "float32",
    }
    return Recipe.model_validate(content | changes)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def merged(paper: dict[str, Path], out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    build_checkpoint(assemble(recipe(paper, **changes), Path()), out)
    return tensors(out)


@pytest.mark.slow
def test_the_merge_of_llava_and_shisa_loads_and_answers_without_evovlm(paper: dict[str, Path], tmp_path: Path):
    out = tmp_path / "merged"
    build_checkpoint(assemble(recipe(paper), Path()), out)
    program = f"""
import sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained({str(out)!r})
model, info = AutoModelForImageTextToText.from_pretrained({str(out)!r}, dtype=torch.float32, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
inputs = processor(text="<image>\\nwhat is it?", images=Image.new("RGB", (60, 40), "red"), return_tensors="pt")
made = model.generate(**inputs, max_new_tokens=4, do_sample=False)
assert made.shape[1] > inputs["input_ids"].shape[1]
assert not any(name.startswith("evovlm") for name in sys.modules)
print("answered")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, cwd="/")
    assert done.stdout.strip().endswith("answered"), done.stderr


def test_the_eyes_are_the_owners_untouched(paper: dict[str, Path], tmp_path: Path):
    before, after = tensors(paper["vlm"]), merged(paper, tmp_path / "out")
    eyes = [key for key in before if not key.startswith("language_model.")]
    assert any("vision_tower" in key for key in eyes)
    assert any("multi_modal_projector" in key for key in eyes)
    assert set(after) == set(before)
    for key in eyes:
        assert torch.equal(after[key], before[key].float()), key


def test_weight_one_for_the_owner_alone_gives_the_owner_back(paper: dict[str, Path], tmp_path: Path):
    only = {"vlm": {"weight": 1.0}, "ja": {"weight": 0.0}}
    before = tensors(paper["vlm"])
    after = merged(paper, tmp_path / "out", method="linear", parameters=only)
    for key, tensor in before.items():
        assert torch.equal(after[key], tensor.float()), key


def test_rows_that_only_the_vlm_has_stay_as_they_are(paper: dict[str, Path], tmp_path: Path):
    key = "language_model.model.embed_tokens.weight"
    before = tensors(paper["vlm"])[key].float()
    after = merged(paper, tmp_path / "out")[key]
    assert after.shape[0] == 2064
    assert torch.equal(after[2000:], before[2000:])
    assert not torch.equal(after[:2000], before[:2000])


def test_a_task_vector_is_added_as_the_formula_says(paper: dict[str, Path], tmp_path: Path):
    weights = {"vlm": {"weight": 0.25}, "ja": {"weight": 0.75}}
    after = merged(paper, tmp_path / "out", method="task_arithmetic", parameters=weights)
    name = "model.layers.1.mlp.up_proj.weight"
    base, ja = tensors(paper["base"])[name].double(), tensors(paper["ja"])[name].double()
    vlm = tensors(paper["vlm"])[f"language_model.{name}"].double()
    expected = base + 0.25 * (vlm - base) + 0.75 * (ja - base)
    assert torch.allclose(after[f"language_model.{name}"].double(), expected, rtol=0, atol=1e-7)


def test_shards_threads_and_runs_change_no_bit(paper: dict[str, Path], tmp_path: Path):
    assembly = assemble(recipe(paper, dtype="bfloat16"), Path())
    build_checkpoint(assembly, tmp_path / "one", threads=1)
    build_checkpoint(assembly, tmp_path / "many", threads=3, max_shard_bytes=100_000)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = tensors(tmp_path / "one"), tensors(tmp_path / "many")
    assert set(one) == set(many)
    assert all(torch.equal(one[key], many[key]) for key in one)


def test_a_model_with_its_tokens_in_another_order_merges_the_same(paper: dict[str, Path], tmp_path: Path):
    """By token the permuted model is the base, so its task vector is zero."""
    sources = [{"name": "vlm", "model": str(paper["vlm"])}, {"name": "moved", "model": str(paper["permuted"])}]
    weights = {"vlm": {"weight": 0.0}, "moved": {"weight": 1.0}}
    after = merged(paper, tmp_path / "out", sources=sources, parameters=weights, method="task_arithmetic")
    base = tensors(paper["base"])["model.embed_tokens.weight"].float()
    assert torch.equal(after["language_model.model.embed_tokens.weight"][:2000], base)


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_method_builds_a_checkpoint(paper: dict[str, Path], tmp_path: Path, method: str):
    changes: dict[str, Any] = {"method": method}
    if method == "passthrough":
        changes["slices"] = [{"source": "ja", "layers": [0, 2]}, {"source": "math", "layers": [0, 1]}]
    after = merged(paper, tmp_path / "out", kind="llm", **changes)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())


def test_stacked_layers_come_from_where_the_slices_say(paper: dict[str, Path], tmp_path: Path):
    slices = [{"source": "ja", "layers": [0, 2]}, {"source": "math", "layers": [0, 1]}]
    after = merged(paper, tmp_path / "out", kind="llm", method="passthrough", slices=slices)
    name = "mlp.up_proj.weight"
    origin = tensors(paper["math"])[f"model.layers.0.{name}"]
    assert torch.equal(after[f"model.layers.2.{name}"], origin.float())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_hidden_layers"] == 3


def test_the_folder_says_what_it_is(paper: dict[str, Path], tmp_path: Path):
    plan = recipe(paper)
    build_checkpoint(assemble(plan, Path()), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert plan.digest() in card
    assert "dare_ties" in card
    assert plan.digest() in (tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "float32"


def test_the_announced_tensors_are_the_written_ones(paper: dict[str, Path], tmp_path: Path):
    assembly = assemble(recipe(paper), Path())
    build_checkpoint(assembly, tmp_path / "out")
    announced = {info.name: info.shape for info in output_tensors(assembly)}
    assert announced == {key: tuple(tensor.shape) for key, tensor in tensors(tmp_path / "out").items()}


def test_weights_that_overflow_leave_nothing_behind(paper: dict[str, Path], tmp_path: Path):
    wild = {"vlm": {"weight": 1e6}, "ja": {"weight": 1e6}}
    with pytest.raises(CheckpointError, match="not finite"):
        merged(
            paper,
            tmp_path / "out",
            method="task_arithmetic",
            parameters=wild,
            options={"lambda": 1e6},
            dtype="float16",
        )
    assert list(tmp_path.iterdir()) == []


def test_an_unrelated_vocabulary_is_refused_before_any_work(paper: dict[str, Path], tmp_path: Path):
    sources = [{"name": "vlm", "model": str(paper["vlm"])}, {"name": "ja", "model": str(paper["extended"])}]
    with pytest.raises(RecipeError, match="vocab"):
        merged(paper, tmp_path / "out", sources=sources)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_with_relative_folders_tells_no_place_and_rebuilds_from_its_checkpoint(
    paper: dict[str, Path], tmp_path: Path
):
    root = paper["vlm"].parent
    sources = [{"name": name, "model": paper[name].name} for name in ("vlm", "ja")]
    plan = recipe(paper, base={"model": f"./{paper['base'].name}"}, sources=sources)
    first, second = tmp_path / "first", tmp_path / "elsewhere" / "second"
    build_checkpoint(assemble(plan, root), first)
    card = (first / "README.md").read_text(encoding="utf-8")
    assert f"model: {paper['ja'].name}\n" in card
    for text in (card, (first / "recipe.yaml").read_text(encoding="utf-8")):
        assert str(root) not in text
    build_checkpoint(assemble(read_recipe(first / "recipe.yaml"), first), second)
    again = tensors(second)
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors(first).items())
