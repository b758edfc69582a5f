"""A route becomes a plain checkpoint: loaded by transformers alone, it computes what the route does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evovlm.engines.hf import Engine
from evovlm.engines.routed import RoutedEngine
from evovlm.merging._folding import factor_of
from evovlm.merging._folding_error import fold_error
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.hub_layouts import save_llm

STEPS: list[dict[str, Any]] = [
    {"source": "math", "layer": 0, "scale": 1.5},
    {"source": "ja", "layer": 1, "scale": -0.7},
    {"source": "ja", "layer": 1, "scale": 0.6},
    {"source": "math", "layer": 0, "scale": -1.9},
    {"source": "ja", "layer": 0, "scale": -0.8},
]
# Loads a checkpoint with transformers alone and writes its logits; evovlm cannot even be imported there.
PROGRAM = """
import sys
sys.modules["evovlm"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
folder, tokens, out, kind = sys.argv[1:]
model, info = getattr(transformers, kind).from_pretrained(
    folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
)
assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
inputs = load_file(tokens)
with torch.inference_mode():
    save_file({"logits": model(**inputs).logits.contiguous()}, out)
print(type(model).__name__, model.config.get_text_config().num_hidden_layers)
"""


@pytest.fixture(scope="module")
def paper(paper_of_few_tokens: dict[str, Path]) -> dict[str, Path]:
    """A small vocabulary makes the many merges here quick."""
    return paper_of_few_tokens


def recipe(paper: dict[str, Path], *names: str, **changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "kind": "vlm" if "vlm" in names else "llm",
        "sources": [{"name": name, "model": str(paper[name])} for name in names],
        "owner": names[0],
        "method": "passthrough",
        "vocab": "tower",
        "dtype": "float32",
        "route": STEPS,
    }
    return Recipe.model_validate(content | changes)


def winding(owner: str, other: str) -> list[dict[str, Any]]:
    """Nine steps through trained layers, one of them twice, scales of either sign."""
    first = [{"source": name, "layer": layer} for name, layer in ((owner, 0), (owner, 1), (other, 2), (other, 2))]
    return [*first, *({"source": owner, "layer": 3 + index, "scale": -0.9 - index / 10} for index in range(5))]


def routed(made: Recipe) -> Engine:
    folders = {source.name: Path(source.model) for source in made.sources}
    assert made.owner is not None
    led = RoutedEngine.load_pool(made.owner, folders, dtype=torch.float32)
    led.follow(made.route)
    return led.engine


def plain_logits(folder: Path, inputs: dict[str, torch.Tensor], work: Path, kind: str) -> tuple[torch.Tensor, str]:
    """What another process, without evovlm, computes."""
    save_file(inputs, work / "inputs.safetensors")
    out = work / "logits.safetensors"
    command = [sys.executable, "-c", PROGRAM, str(folder), str(work / "inputs.safetensors"), str(out), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=work)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(out)["logits"], done.stdout.strip()


@pytest.mark.slow
def test_a_routed_language_model_is_exported_as_a_plain_mistral(tmp_path: Path):
    zoo = {name: zoo_folder(name) for name in ("ja", "math")}
    made = recipe(zoo, "ja", "math", route=winding("ja", "math"))
    report = build_checkpoint(assemble(made, Path()), tmp_path / "out")
    tokens = torch.randint(5, 600, (2, 12), generator=torch.Generator().manual_seed(1))
    found, said = plain_logits(tmp_path / "out", {"input_ids": tokens}, tmp_path, "AutoModelForCausalLM")
    with torch.inference_mode():
        expected = routed(made).model(tokens).logits
    assert said == "MistralForCausalLM 9"
    assert (found - expected).abs().max() < 1e-4 * expected.std()
    assert report.folding is not None
    assert "norms' epsilon" in report.folding
    assert report.folding in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_routed_tower_is_exported_as_a_plain_llava(tmp_path: Path):
    zoo = {name: zoo_folder(name) for name in ("vlm", "ja")}
    made = recipe(zoo, "vlm", "ja", route=winding("vlm", "ja"))
    build_checkpoint(assemble(made, Path()), tmp_path / "out")
    engine = routed(made)
    picture = Image.new("RGB", (96, 96), "red")
    seen = engine.processor(text="<image>\n何色ですか。", images=picture, return_tensors="pt")
    inputs = {name: tensor.contiguous() for name, tensor in seen.items()}
    found, said = plain_logits(tmp_path / "out", inputs, tmp_path, "AutoModelForImageTextToText")
    with torch.inference_mode():
        expected = engine.model(**inputs).logits
    assert said == f"{type(engine.model).__name__} 9"
    assert said.startswith("Llava")
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.slow
def test_the_error_that_is_told_is_the_one_that_others_meet(paper: dict[str, Path], tmp_path: Path):
    # These random models have a stream so small that the epsilon beside it shows.
    made = recipe(paper, "ja", "math")
    told = fold_error(assemble(made, Path()))
    build_checkpoint(assemble(made, Path()), tmp_path / "out")
    tokens = torch.randint(5, 2000, (2, 32), generator=torch.Generator().manual_seed(1))
    found, _ = plain_logits(tmp_path / "out", {"input_ids": tokens}, tmp_path, "AutoModelForCausalLM")
    with torch.inference_mode():
        met = float((found - routed(made).model(tokens).logits).abs().max())
    assert told.epsilon > 1e-4
    assert met / 4 < told.epsilon < 4 * met


def test_without_folding_the_scales_the_logits_would_be_others(paper: dict[str, Path]):
    made = recipe(paper, "ja", "math")
    bare = [step | {"scale": 1.0} for step in STEPS]
    tokens = torch.randint(5, 2000, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scaled = routed(made).model(tokens).logits
        plain = routed(recipe(paper, "ja", "math", route=bare)).model(tokens).logits
    assert (scaled - plain).abs().max() > 0.05 * scaled.std()


def test_the_error_through_the_epsilon_is_measured(paper: dict[str, Path], tmp_path: Path):
    # A stream of about 1e-3 beside an epsilon of 1e-5 under its square: folding a scale of 30 must show, 1 must not.
    folder = save_llm(tmp_path / "small", rms_norm_eps=1e-3)
    small = {"kind": "llm", "sources": [{"name": "a", "model": str(folder)}], "owner": "a", "method": "passthrough"}
    steps = [{"source": "a", "layer": layer, "scale": scale} for layer, scale in ((0, 1.0), (1, 30.0))]

    def error(route: list[dict[str, Any]]) -> float:
        made = Recipe.model_validate(small | {"dtype": "float32", "route": route})
        found = fold_error(assemble(made, Path()))
        assert found.spread > 0
        return found.epsilon / found.spread

    assert error([step | {"scale": 1.0} for step in steps]) == 0.0
    assert error(steps) > 1e-2


def test_rounding_to_the_stored_dtype_is_told_apart_from_the_epsilon(paper: dict[str, Path]):
    found = fold_error(assemble(recipe(paper, "ja", "math", dtype="bfloat16"), Path()))
    assert found.epsilon < found.rounded
    assert f"{found.rounded:.2g}" in found.in_words("bfloat16")


def test_what_is_written_to_the_stream_is_divided_and_what_reads_it_takes_the_sign():
    assert factor_of("model.layers.3.self_attn.o_proj.weight", -4.0) == -0.25
    assert factor_of("model.layers.3.mlp.down_proj.weight", 0.5) == 2.0
    assert factor_of("model.layers.3.input_layernorm.weight", -4.0) == -1.0
    assert factor_of("model.layers.3.post_attention_layernorm.weight", 4.0) == 1.0
    assert factor_of("model.norm.weight", -0.1) == -1.0
    for other in ("self_attn.q_proj.weight", "mlp.up_proj.weight", "self_attn.q_norm.weight"):
        assert factor_of(f"model.layers.3.{other}", -4.0) == 1.0


def test_a_step_that_names_no_such_layer_is_refused_with_its_number(paper: dict[str, Path]):
    route = [*STEPS, {"source": "ja", "layer": 2}]
    with pytest.raises(RecipeError, match=r"route.5: step 5: no layer 2 in ja, which has 0 to 1"):
        assemble(recipe(paper, "ja", "math", route=route), Path())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rope_theta": 1e6}, "rope_theta is 1000000.0 in other and 10000.0 in ja"),
        ({"sliding_window": 64}, "sliding_window is 64 in other"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps is 1e-06 in other"),
    ],
)
def test_what_a_model_holds_once_must_be_the_same_in_all_sources(
    paper: dict[str, Path], tmp_path: Path, config: dict[str, Any], told: str
):
    folder = tmp_path / "other"
    save_llm(folder)
    text = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "rope_theta" in config:
        text["rope_parameters"] = {"rope_theta": config["rope_theta"], "rope_type": "default"}
    else:
        text |= config
    (folder / "config.json").write_text(json.dumps(text), encoding="utf-8")
    route = [STEPS[1], {"source": "other", "layer": 0}]
    with pytest.raises(RecipeError, match=rf"route.1: step 1: {told}.*one value for all its layers"):
        assemble(recipe(paper | {"other": folder}, "ja", "other", route=route), Path())


def test_layers_of_another_width_or_head_count_are_refused_with_the_steps_number(
    paper: dict[str, Path], tmp_path: Path
):
    base = json.loads((paper["ja"] / "config.json").read_text(encoding="utf-8"))
    wide = save_llm(tmp_path / "wide", hidden_size=2 * base["hidden_size"])
    heads = save_llm(tmp_path / "heads", num_key_value_heads=base["num_attention_heads"])
    route = [STEPS[1], STEPS[1], {"source": "other", "layer": 0}]
    for folder, told in ((wide, "hidden_size"), (heads, "num_key_value_heads")):
        with pytest.raises(RecipeError, match=rf"route.2: step 2: {told} is .* cannot share a residual stream"):
            assemble(recipe(paper | {"other": folder}, "ja", "other", route=route), Path())


def test_a_scale_so_small_that_the_norms_epsilon_matters_is_refused(paper: dict[str, Path], tmp_path: Path):
    tiny = [{"source": "ja", "layer": 0, "scale": 1e-9} for _ in range(2)]
    with pytest.raises(RecipeError, match="with the scales folded in, logits would differ by"):
        build_checkpoint(assemble(recipe(paper, "ja", "math", route=tiny), Path()), tmp_path / "out")
