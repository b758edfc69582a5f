"""What a family's norms add to their weights before they multiply by them: 0 for most, 1 for Gemma's.

Knows transformers' modules; finds out by running each norm, not by its name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from evovlm.merging._causal_config import causal_config
from evovlm.models.layouts import FINAL_NORM, LAYER
from evovlm.models.library_faults import explained
from evovlm.system.errors import CheckpointError, RecipeError

WIDTH = 8  # of the vector that the norms are tried with; they do not depend on it


def norm_offset(folder: Path, name: str) -> float:
    """What the module of a canonical tensor adds to its weight; 0 for other modules, and for biases.

    `folder`: a model of the family. Raises RecipeError if transformers does not know the family.
    """
    if not name.endswith("norm.weight"):
        return 0.0
    layer = LAYER.match(name)
    return _offsets(folder).get(name if layer is None else name[layer.end() :], 0.0)


@lru_cache(maxsize=32)
def _offsets(folder: Path) -> Mapping[str, float]:
    """By tensor name, within a layer (`input_layernorm.weight`) and outside (`model.norm.weight`)."""
    from transformers import AutoModelForCausalLM

    try:
        with explained(folder):
            config = causal_config(folder)
            config.num_hidden_layers = 1
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[:1]
            with torch.device("meta"):
                decoder: Any = AutoModelForCausalLM.from_config(config).model
    except CheckpointError as error:
        raise RecipeError(
            f"route: scales cannot be folded into {folder.name}'s weights, because transformers cannot make a language"
            f" model of its configuration ({error}); search with `scales: none`"
        ) from error
    norms = {
        f"{name}.weight": module
        for name, module in decoder.layers[0].named_modules()
        if name.endswith("norm") and getattr(module, "weight", None) is not None
    }
    norms[FINAL_NORM] = decoder.norm
    return {name: _offset(name, module) for name, module in norms.items()}


@torch.inference_mode()
def _offset(name: str, module: Any) -> float:
    """The offset a in norm(x) = (a + weight) n(x), from the norm with weights of 0 and of 1."""
    tried = copy.copy(module)
    tried._parameters = dict(module._parameters)
    values = torch.linspace(-1.0, 2.0, WIDTH)
    if getattr(module, "bias", None) is not None:
        tried._parameters["bias"] = torch.nn.Parameter(torch.zeros(WIDTH), requires_grad=False)
    if hasattr(module, "normalized_shape"):
        tried.normalized_shape = (WIDTH,)
    seen = []
    for weight in (0.0, 1.0):
        tried._parameters["weight"] = torch.nn.Parameter(torch.full((WIDTH,), weight), requires_grad=False)
        seen.append(tried(values).float())
    gain = seen[1] - seen[0]
    offset = float((seen[0] * gain).sum() / gain.pow(2).sum())
    if not torch.allclose(seen[0], offset * gain, atol=1e-5):
        raise RecipeError(
            f"route: scales cannot be folded: {name} is no norm whose weights multiply; use `scales: none`"
        )
    return round(offset, 4)
