"""Write trained tensors as ordinary Hugging Face folders that the Auto classes load.

Knows file layouts and configs; trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaProcessor,
    MistralConfig,
)

from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.zoo._network import Shape
from evovlm.zoo._tokenizer import BOS_ID, EOS_ID, IMAGE, PAD_ID, wrap

POSITIONS = 256
IDS = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}


def save_llm(folder: Path, tower: Mapping[str, Tensor], shape: Shape, tokenizer: Tokenizer) -> None:
    """Write a MistralForCausalLM folder in bfloat16."""
    folder.mkdir(parents=True)
    config = _text_config(shape, shape.vocabulary)
    config.architectures = ["MistralForCausalLM"]
    _save(folder, config, tower)
    wrap(tokenizer).save_pretrained(folder)


def save_vlm(folder: Path, weights: Mapping[str, Tensor], shape: Shape, tokenizer: Tokenizer) -> None:
    """Write a LlavaForConditionalGeneration folder in bfloat16, in the hub's key layout.

    The vocabulary gains `<image>` and one padding row; both are the mean of the other rows, because they are untrained.
    """
    folder.mkdir(parents=True)
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=shape.vision_inner,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.image,
        patch_size=shape.patch,
        projection_dim=shape.vision_hidden,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=_text_config(shape, shape.vocabulary + 2),
        image_token_index=shape.vocabulary,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=shape.image_tokens,
        pad_token_id=PAD_ID,
        tie_word_embeddings=False,
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    hub = {_hub_name(name): _widen(name, tensor) for name, tensor in weights.items()}
    _save(folder, config, hub)
    side = {"height": shape.image, "width": shape.image}
    images = CLIPImageProcessorPil(
        size=side,
        crop_size=side,
        do_resize=True,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    LlavaProcessor(
        image_processor=images,
        tokenizer=wrap(tokenizer, with_image=True),
        patch_size=shape.patch,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def _text_config(shape: Shape, rows: int) -> MistralConfig:
    return MistralConfig(
        vocab_size=rows,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        sliding_window=None,
        tie_word_embeddings=False,
        **IDS,
    )


def _save(folder: Path, config: Any, weights: Mapping[str, Tensor]) -> None:
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    GenerationConfig(**IDS, do_sample=False).save_pretrained(folder)
    narrow = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(narrow, folder / "model.safetensors", metadata={"format": "pt"})


def _hub_name(name: str) -> str:
    return f"language_model.{name}" if name.startswith(("model.", "lm_head.")) else name


def _widen(name: str, tensor: Tensor) -> Tensor:
    if name in VOCABULARY_TENSORS:
        return torch.cat([tensor, tensor.mean(dim=0, keepdim=True).expand(2, -1)])
    return tensor
