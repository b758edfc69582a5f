"""Tiny language models of every text family that is merged and asked alone, as the hub has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.engine_families import FAMILIES
from tests.hub_layouts import make_tokenizer
from tests.vlm_families import text_of, to_trained_scale

MORE: dict[str, dict[str, Any]] = {"llama": FAMILIES["Llama"]}
TEXTS = ("mistral", "llama", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3", "cohere2")
SLOWER = {"qwen3_moe", "gemma2", "gemma3_text", "phi3", "cohere2"}  # asked by transformers' layers
# The others have tests of their own in the quick lane.
QUICK = ("cohere2",)
TEXT_PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TEXTS]


def save_text_family(kind: str, folder: Path, seed: int = 0, ancestor: Path | None = None, **config: Any) -> Path:
    """A language model of a kind (`model_type`) in float32; with an `ancestor`, its weights and a small step."""
    given = text_of(kind, **MORE.get(kind, {}), **config)
    made = transformers.CONFIG_MAPPING[kind](**{name: value for name, value in given.items() if name != "model_type"})
    torch.manual_seed(seed)
    if ancestor is None:
        model: Any = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
        to_trained_scale(model, seed)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(ancestor, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():  # norms too, which begin equal
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
