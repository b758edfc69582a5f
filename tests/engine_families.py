"""Tiny models of many families, with what tells the families apart switched on: windows, soft caps, scales."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    PreTrainedTokenizerFast,
)

from tests.hub_layouts import FEW_TOKENS, PADDED, make_tokenizer, tokenizer_with

SMALL: dict[str, Any] = {
    "vocab_size": FEW_TOKENS + PADDED,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Further settings by family: what tells them apart (windows, soft caps, scales) is on.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 512}},
    "Mistral": {"sliding_window": 4096},
    "Qwen2": {},
    "Qwen3": {},
    "Gemma": {},
    "Gemma2": {"sliding_window": 16, "final_logit_softcapping": 0.2, "attn_logit_softcapping": 5.0},
    "Gemma3Text": {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "Phi3": {"sliding_window": 16},
    "Granite": {"logits_scaling": 8.0, "residual_multiplier": 0.2, "embedding_multiplier": 12.0},
}  # fmt: skip


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_with(image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>")


def save_family(folder: Path, family: str, *, seed: int = 0, **config: Any) -> Path:
    """A language model of a family, with random weights in float32."""
    torch.manual_seed(seed)
    name = family.removesuffix("Text")
    kind = getattr(transformers, f"{family}Config" if family == "Gemma3Text" else f"{name}Config")
    getattr(transformers, f"{name}ForCausalLM")(kind(**{**SMALL, **FAMILIES[family], **config})).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def save_gemma3(folder: Path, *, seed: int = 0, **text: Any) -> Path:
    """A Gemma 3 with SigLIP eyes: two by two image tokens that see each other, windows and two rotary tables."""
    torch.manual_seed(seed)
    tokenizer = gemma_tokenizer()
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 7, "vision_use_head": False,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=SMALL | FAMILIES["Gemma3Text"] | text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        eos_token_id=2,
    )
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():  # its initial weights are so small that pictures would hardly matter
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0 if "vision" in name or "projector" in name else 2.0)
        model.model.multi_modal_projector.mm_input_projection_weight.normal_()
    model.save_pretrained(folder)
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    Gemma3Processor(images, tokenizer, image_seq_length=4).save_pretrained(folder)
    return folder
