"""Four tiny models of one shape, the same bytes everywhere: what mergekit merged, and what the tests merge.

Knows torch alone, because mergekit's environment runs it too.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

MODELS = ("base", "one", "two", "three")
LAYERS, VOCABULARY, HIDDEN, INNER = 2, 12, 8, 12
CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        for name, rows in (("q_proj", HIDDEN), ("k_proj", HIDDEN // 2), ("v_proj", HIDDEN // 2), ("o_proj", HIDDEN)):
            yield f"{place}self_attn.{name}.weight", (rows, HIDDEN)
        yield f"{place}mlp.gate_proj.weight", (INNER, HIDDEN)
        yield f"{place}mlp.up_proj.weight", (INNER, HIDDEN)
        yield f"{place}mlp.down_proj.weight", (HIDDEN, INNER)
        yield f"{place}input_layernorm.weight", (HIDDEN,)
        yield f"{place}post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def make_tensors() -> dict[str, dict[str, Tensor]]:
    """The tensors of each model: tunes of the base, with some that are the base's, equal, or parallel."""
    generator = torch.Generator().manual_seed(20261129)
    found: dict[str, dict[str, Tensor]] = {name: {} for name in MODELS}
    for tensor, shape in _shapes():
        base = torch.randn(shape, generator=generator) * 0.05 + (1.0 if "norm" in tensor else 0.0)
        found["base"][tensor] = base
        for name in MODELS[1:]:
            found[name][tensor] = base + torch.randn(shape, generator=generator) * 0.01
    base, one, two = (found[name] for name in MODELS[:3])
    first, second = "model.layers.0.self_attn.", "model.layers.1.self_attn."
    one[f"{first}k_proj.weight"] = base[f"{first}k_proj.weight"].clone()
    two[f"{first}k_proj.weight"] = base[f"{first}k_proj.weight"].clone()
    two[f"{first}v_proj.weight"] = base[f"{first}v_proj.weight"].clone()
    tuned = one[f"{first}o_proj.weight"]
    two[f"{first}o_proj.weight"] = tuned + (tuned - base[f"{first}o_proj.weight"])
    two[f"{second}k_proj.weight"] = 2.0 * one[f"{second}k_proj.weight"]
    return found


def save_models(folder: Path) -> None:
    """Write the models to folders of their names."""
    for name, tensors in make_tensors().items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
