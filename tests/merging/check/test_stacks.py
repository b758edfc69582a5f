"""A stack of layers is written only if transformers loads it as the model that it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.text_families import save_text_family

# Gemma 4's text model: its last layer always sees every token.
KINDS = ["sliding_attention", "full_attention"] * 2
GEMMA4 = {"layer_types": KINDS, "global_head_dim": 16, "sliding_window": 16, "tie_word_embeddings": True,
          "hidden_size_per_layer_input": 0, "rope_parameters": None}  # fmt: skip
ENDS_WIDE, ENDS_NARROW = (0, 1, 3), (0, 1, 2)


def stack(layers: tuple[int, ...], **more: Any) -> Recipe:
    route = [{"source": "a", "layer": layer, "scale": 1.0} for layer in layers]
    shared = {"kind": "llm", "sources": [{"name": "a", "model": "a"}], "owner": "a", "dtype": "float32"}
    return Recipe.model_validate(shared | {"method": "passthrough"} | ({} if more else {"route": route}) | more)


def test_a_stack_that_transformers_reads_as_it_is_computes_what_its_layers_do(tmp_path: Path):
    save_text_family("gemma4_text", tmp_path / "a", **GEMMA4)
    build_checkpoint(assemble(stack(ENDS_WIDE), tmp_path), tmp_path / "out")
    kind = transformers.AutoModelForCausalLM
    source, plain = (kind.from_pretrained(tmp_path / name) for name in ("a", "out"))
    assert plain.config.layer_types == [KINDS[layer] for layer in ENDS_WIDE]
    source.model.layers = torch.nn.ModuleList(source.model.layers[layer] for layer in ENDS_WIDE)
    source.config.num_hidden_layers, source.config.layer_types = len(ENDS_WIDE), plain.config.layer_types
    ids = torch.randint(5, 2000, (1, 40), generator=torch.Generator().manual_seed(1))  # longer than the window
    with torch.inference_mode():
        expected, found = source(ids, use_cache=False).logits, plain(ids, use_cache=False).logits
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("place", "recipe"),
    [
        ("route", stack(ENDS_NARROW)),
        ("slices", stack((), slices=[{"source": "a", "layers": [0, 3]}])),
        ("search.route", stack((), search={"route": {"scales": "none"}})),
    ],
)
def test_a_stack_that_transformers_would_read_as_another_is_refused(place: str, recipe: Recipe, tmp_path: Path):
    save_text_family("gemma4_text", tmp_path / "a", **GEMMA4)
    with pytest.raises(RecipeError, match=rf"{place}: a model of the kind gemma4_text with `layer_types` \['sliding"):
        assemble(recipe, tmp_path)


def test_layers_that_depend_on_their_place_are_refused(tmp_path: Path):
    save_text_family("gemma4_text", tmp_path / "a", **GEMMA4 | {"num_kv_shared_layers": 2, "num_hidden_layers": 4})
    with pytest.raises(RecipeError, match=r"num_kv_shared_layers: set in a: its last layers take keys and values"):
        assemble(stack(ENDS_WIDE), tmp_path)
