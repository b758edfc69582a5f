"""Scales folded into families whose norms add 1, lie on both sides of a block, or cannot take a scale at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evovlm.engines.routed import RoutedEngine
from evovlm.merging import _folding_error
from evovlm.merging._folding import lost_share
from evovlm.merging._folding_error import FoldError, refuse_error, refuse_lost
from evovlm.merging._norm_offsets import norm_offset
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.hub_layouts import make_tokenizer

ROWS = 600
SMALL = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
SCALES = (-1.5, 0.6, 1.4)
# What float32 still stores of Gemma's norms, whose offset of 1 is beside the scaled weights.
GEMMA_HOLDS = {("float32", 1e-12), ("float32", 1e-6), ("bfloat16", 1e-12), ("bfloat16", 1e-6)}


def save(folder: Path, kind: str, **config: Any) -> Path:
    """A tiny random model of a family, its norms away from where they start and its stream far above the epsilon."""
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(
        transformers.CONFIG_MAPPING[kind](**(SMALL | config)), dtype=torch.float32
    )
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" in name or "embed" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    made.save_pretrained(folder)
    make_tokenizer(ROWS).save_pretrained(folder)
    return folder


def recipe(folder: Path, scales: tuple[float, ...] = SCALES) -> Recipe:
    route = [{"source": "a", "layer": index % 2, "scale": scale} for index, scale in enumerate(scales)]
    content = {"kind": "llm", "sources": [{"name": "a", "model": str(folder)}], "owner": "a", "route": route}
    return Recipe.model_validate(content | {"method": "passthrough", "dtype": "float32"})


@pytest.mark.parametrize("kind", ["gemma", "gemma2", "gemma3_text", "qwen3", "phi3"])
def test_a_folded_route_computes_what_the_route_does(tmp_path: Path, kind: str):
    made = recipe(save(tmp_path / "model", kind))
    build_checkpoint(assemble(made, Path()), tmp_path / "out")
    routed = RoutedEngine.load_pool("a", {"a": tmp_path / "model"}, dtype=torch.float32)
    routed.follow(made.route)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokens = torch.randint(3, ROWS, (2, 10), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = routed.engine.model(tokens).logits
        found = plain(tokens).logits
    assert (found - expected).abs().max() < 1e-3 * expected.std()


@pytest.mark.parametrize("kind", ["olmo2"])
def test_a_family_whose_blocks_read_the_stream_itself_is_refused(tmp_path: Path, kind: str):
    made = recipe(save(tmp_path / "model", kind))
    with pytest.raises(RecipeError, match=rf"route: .*architecture \({kind}\).*scales: none"):
        build_checkpoint(assemble(made, Path()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_route_without_scales_is_built_for_any_family(tmp_path: Path):
    made = recipe(save(tmp_path / "model", "olmo2"), (1.0, 1.0, 1.0))
    assert build_checkpoint(assemble(made, Path()), tmp_path / "out").folding is None


def test_what_norms_add_to_their_weights_is_found_by_running_them(tmp_path: Path):
    gemma, qwen = save(tmp_path / "gemma", "gemma2"), save(tmp_path / "qwen", "qwen3")
    for name in ("model.norm.weight", "model.layers.7.pre_feedforward_layernorm.weight"):
        assert norm_offset(gemma, name) == 1.0
    assert norm_offset(gemma, "model.layers.0.mlp.down_proj.weight") == 0.0
    for name in ("model.norm.weight", "model.layers.1.input_layernorm.weight"):
        assert norm_offset(qwen, name) == 0.0


def test_a_fold_that_forgets_the_offset_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = recipe(save(tmp_path / "model", "gemma"))
    monkeypatch.setattr(_folding_error, "norm_offset", lambda folder, name: 0.0)
    with pytest.raises(RecipeError, match="logits would differ by"):
        build_checkpoint(assemble(made, Path()), tmp_path / "out")


def test_an_error_larger_than_the_logits_is_refused_and_a_small_one_is_not():
    refuse_error(FoldError(epsilon=0.01, rounded=0.1, spread=1.0), "bfloat16")
    with pytest.raises(RecipeError, match="beside the norms' epsilon"):
        refuse_error(FoldError(epsilon=2.2, rounded=2.2, spread=1.6), "bfloat16")
    with pytest.raises(RecipeError, match=r"weights rounded to float16, logits would differ by 2\.2"):
        refuse_error(FoldError(epsilon=0.01, rounded=2.2, spread=1.6), "float16")
    for broken in ({"epsilon": float("nan"), "rounded": 0.0}, {"epsilon": 0.0, "rounded": float("inf")}):
        with pytest.raises(RecipeError, match="not finite"):
            refuse_error(FoldError(**broken, spread=1.0), "bfloat16")


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("product", [1e-12, 1e-6, 1e6, 1e12])
def test_weights_that_leave_the_range_of_their_dtype_are_refused(tmp_path: Path, kind: str, dtype: str, product: float):
    made = recipe(save(tmp_path / "model", kind), (product, 1.0, 1.0)).model_copy(update={"dtype": dtype})
    assembly = assemble(made, Path())
    # Gemma's norms add 1 to their weights, so that a small factor is a difference of numbers close to 1.
    fits = dtype != "float16" if kind == "mistral" else (dtype, product) in GEMMA_HOLDS
    if fits:
        refuse_lost(assembly)
        return
    told = rf"route: model.layers.0\..* has to be multiplied by .* {dtype} stores the result (with an error|as inf)"
    with pytest.raises(RecipeError, match=told):
        build_checkpoint(assembly, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("factor", [3.0, -0.1, 1e-3])
def test_ordinary_scales_lose_no_more_than_rounding(dtype: torch.dtype, factor: float):
    weights = 0.02 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert lost_share(weights, factor, 0.0, dtype) < max(torch.finfo(dtype).eps, 2e-3)
    assert lost_share(weights, 1e9 if factor > 1 else 1e-9, 0.0, torch.float16) > 0.99
    assert lost_share(torch.zeros(4), factor, 0.0, dtype) == 0.0
