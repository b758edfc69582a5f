"""A small model of the same kind as a large one: its configuration with few, narrow layers, and random weights.

Knows transformers' configurations; reads no weights. What an engine does with a model depends on how it is built and
not on its size, so the small one shows whether the large one can be asked, in a second and some megabytes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

LAYERS = 2
HEADS = 4
HEAD_WIDTH = 16
SEED = 0
# Sizes in the configurations of text and vision models, where they have them.
WIDTHS = {
    "hidden_size": HEADS * HEAD_WIDTH,
    "intermediate_size": 112,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_attention_heads": HEADS,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "hidden_size_per_layer_input": 16,
}


def cut_down(config: Any) -> Any:
    """Return a model of a configuration's kind with few and narrow layers: float32, on the CPU, with random weights.

    Vocabulary, pictures and patches keep their sizes. Raises what transformers raises if the kind cannot be built so.
    """
    small = deepcopy(config)
    sees = hasattr(small, "vision_config")
    text = small.get_text_config()
    _shrink(text, LAYERS)
    if sees:
        _shrink(small.vision_config, _vision_layers(small))
    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return kind.from_config(small, dtype=torch.float32).eval().requires_grad_(False)


def _shrink(config: Any, layers: int) -> None:
    """Narrow one part's layers in place. Widths of heads stay where the configuration gives them by themselves."""
    shared = getattr(config, "num_key_value_heads", None) != getattr(config, "num_attention_heads", None)
    kinds = getattr(config, "layer_types", None)
    if kinds:
        # One layer of each kind, so that full and sliding attention are both tried.
        kept = list(dict.fromkeys(kinds))
        config.layer_types = (kept * layers)[: max(layers, len(kept))]
        layers = len(config.layer_types)
    for name, value in WIDTHS.items():
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, min(value, getattr(config, name)))
    if isinstance(getattr(config, "num_key_value_heads", None), int):
        config.num_key_value_heads = HEADS // 2 if shared else HEADS
    config.num_hidden_layers = layers


def _vision_layers(config: Any) -> int:
    """As many vision layers as the language model reads features from, counted from the last."""
    read = getattr(config, "vision_feature_layer", None)
    indices = read if isinstance(read, (list, tuple)) else [read]
    deepest = max((-index if index < 0 else index + 1 for index in indices if isinstance(index, int)), default=LAYERS)
    return max(LAYERS, deepest)
