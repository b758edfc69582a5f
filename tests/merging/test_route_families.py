"""Routes through the layers of every family: the plain checkpoint computes what the routed model does.

In float64 and with an epsilon that counts for nothing, so that what differs is the rounding of folded weights.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evovlm.engines.routed import RoutedEngine
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint, refuse_unbuildable
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.engines.test_families import inputs_of, items
from tests.merging.test_vlm_families import save_text
from tests.text_families import TEXT_PARAMETERS, save_text_family
from tests.vlm_families import FAMILIES, UNASKED, save_family

ROUNDING = 5e-5  # of the logits' spread: what float32 rounds in the weights, times what the layers make of it
# Layers of either source, in other orders and twice, after two of the owner's own.
LAYERS = (("a", 0), ("a", 1), ("b", 1), ("a", 3), ("b", 0), ("a", 3), ("b", 2))
SCALES = (-1.5, 0.6, 1.4, -0.8, 1.0, 1.2, 0.7)
# Qwen3-VL adds features of the picture after its first layers, where it can have no scale.
LATER = (1.0, 1.0, *SCALES[2:])
EPSILONS = ("rms_norm_eps", "layer_norm_eps")


def without_epsilon(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    text.update({name: 1e-14 for name in EPSILONS if name in text})
    path.write_text(json.dumps(config), encoding="utf-8")


def recipe(root: Path, scales: tuple[float, ...], kind: str = "llm", layers: Any = LAYERS) -> Recipe:
    route = [
        {"source": source, "layer": layer, "scale": scale}
        for (source, layer), scale in zip(layers, scales, strict=True)
    ]
    sources = [{"name": name, "model": str(root / name)} for name in sorted({source for source, _ in layers})]
    shared = {"owner": "a", "method": "passthrough", "dtype": "float32", "vocab": "tower"}
    return Recipe.model_validate({"kind": kind, "sources": sources, "route": route} | shared)


def routed(root: Path, made: Recipe, dtype: torch.dtype) -> RoutedEngine:
    folders = {source.name: root / source.name for source in made.sources}
    engine = RoutedEngine.load_pool("a", folders, dtype=dtype, self_check=False)
    engine.follow(made.route)
    return engine


@pytest.mark.parametrize("kind", TEXT_PARAMETERS)
def test_a_route_of_texts_is_a_plain_checkpoint(kind: str, tmp_path: Path):
    for seed, name in enumerate("ab"):
        without_epsilon(save_text_family(kind, tmp_path / name, seed))
    made = recipe(tmp_path, SCALES)
    build_checkpoint(assemble(made, tmp_path), tmp_path / "out")
    # torch multiplies experts in no wider type than float32.
    dtype, bound = (torch.float32, 1e-3) if kind == "qwen3_moe" else (torch.float64, ROUNDING)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype)
    engine = routed(tmp_path, made, dtype).engine
    ids = torch.randint(5, 2000, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = engine.model(ids).logits, plain(ids).logits
    assert (found - expected).abs().max() < bound * expected.std()
    kinds = getattr(plain.config, "layer_types", None)
    assert kinds is None or len(kinds) == len(LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_route_through_a_tower_is_a_plain_checkpoint(name: str, tmp_path: Path):
    """Layers of the tower and of a text model, with a picture in the prompt."""
    made = save_family(name, tmp_path / "a")
    save_text(tmp_path / "b", made.model.config.text_config, made.tower, 1, made.processor.tokenizer)
    for source in "ab":
        without_epsilon(tmp_path / source)
    if name == "qwen3_vl":  # it turns its heads otherwise than its text models, of which a route has one way
        with pytest.raises(RecipeError, match="rope_theta"):
            assemble(recipe(tmp_path, LATER, "vlm"), tmp_path)
        layers: Any = [("a", layer) for _, layer in LAYERS]
    else:
        layers = LAYERS
    led = recipe(tmp_path, LATER if name == "qwen3_vl" else SCALES, "vlm", layers)
    build_checkpoint(assemble(led, tmp_path), tmp_path / "out")
    plain = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float64)
    engine = routed(tmp_path, led, torch.float64).engine
    for item in items(2):
        inputs = inputs_of(engine, made, item)
        inputs = {
            key: value.double() if torch.is_floating_point(value) else value
            for key, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        with torch.inference_mode():
            expected = engine.model(**inputs, use_cache=False).logits
            found = plain(**inputs, use_cache=False).logits
        assert (found - expected).abs().max() < ROUNDING * expected.std()


@pytest.mark.parametrize("name", UNASKED)
def test_a_route_through_a_tower_that_is_not_asked_is_refused(name: str, tmp_path: Path):
    """Nothing says that it would be right: Gemma 4's last layer sees every token, whichever layer that is."""
    save_family(name, tmp_path / "a")
    for ending in ((0, 1, 2), (0, 1)):
        made = recipe(tmp_path, (1.0,) * len(ending), "vlm", [("a", layer) for layer in ending])
        with pytest.raises(RecipeError, match=r"route: a is a .*, but cannot ask it yet"):
            assemble(made, tmp_path)


@pytest.mark.slow
def test_a_scale_before_features_of_the_picture_is_refused(tmp_path: Path):
    save_family("qwen3_vl", tmp_path / "a")
    layers = [("a", layer) for _, layer in LAYERS]
    with pytest.raises(RecipeError, match=r"route: a adds features of the picture .* first 2 layers"):
        build_checkpoint(assemble(recipe(tmp_path, SCALES, "vlm", layers), tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    content = {"kind": "vlm", "sources": [{"name": "a", "model": "a"}], "owner": "a", "method": "passthrough"}
    for kept, fits in ((1, False), (2, True)):
        search = {"route": {"scales": "matrix", "prefix": {"source": "a", "layers": kept}}}
        assembly = assemble(Recipe.model_validate(content | {"search": search}), tmp_path)
        if fits:
            refuse_unbuildable(assembly)
        else:
            with pytest.raises(RecipeError, match=r"prefix: \{source: a, layers: 2\}"):
                refuse_unbuildable(assembly)


def test_layers_of_other_kinds_cannot_share_a_route(tmp_path: Path):
    """Qwen 3.5's layers with linear attention have other tensors than those that look at every token."""
    linear = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
    own: dict[str, Any] = {f"linear_{name}": size for name, size in linear.items()}
    own["layer_types"] = ["linear_attention", "full_attention"] * 2
    own["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
    save_text_family("qwen3_5_text", tmp_path / "a", **own)
    with pytest.raises(RecipeError, match=r"layer 1 lacks 'linear_attn.* a stack has layers of one kind"):
        assemble(recipe(tmp_path, (1.0, 1.0), layers=(("a", 0), ("a", 1))), tmp_path)
