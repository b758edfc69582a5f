"""Tiny vision-language models of every family that transformers' own classes save, as the hub has them.

Widths and depths are cut down, weights are random and of a trained model's scale; names, configurations, tokenizers and
processors are what `save_pretrained` writes. No torchvision is needed: pictures are prepared by the PIL processors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from evovlm.models.processors import processor_class, without_video
from tests.chat_layouts import LAYOUTS
from tests.engine_families import SMALL
from tests.hub_layouts import tokenizer_with

TEXT = SMALL | {"tie_word_embeddings": False}
EYES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
GEMMA = {"sliding_window": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Made:
    """A family's parts. `mark`: what stands for the picture in a prompt. `tower`: the text family that fits."""

    model: Any
    processor: Any
    mark: str
    tower: str


def text_of(kind: str, **more: Any) -> dict[str, Any]:
    """A tower's configuration: what tells its family apart (windows, soft caps, scales) is on."""
    own: dict[str, Any] = {
        "mistral": {"sliding_window": 64},
        "gemma2": GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        "gemma3_text": GEMMA | {"layer_types": ["sliding_attention", "full_attention"] * 2},
        "cohere2": {"sliding_window": 16, "logit_scale": 0.5, "tie_word_embeddings": True},
        "phi3": {"sliding_window": 16},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    }.get(kind, {})
    return {"model_type": kind, **TEXT, **own, **more}


def _llava(kind: str, tower: str = "mistral") -> Made:
    tokenizer = tokenizer_with(image_token="<image>")
    vision = {"model_type": "clip_vision_model", **EYES, "image_size": 28, "patch_size": 14, "projection_dim": 32}
    shared = {
        "text_config": text_of(tower), "vision_config": vision, "image_token_index": tokenizer.image_token_id,
        "tie_word_embeddings": False,
    }  # fmt: skip
    more = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    if kind == "llava":
        images = tf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
        model: Any = tf.LlavaForConditionalGeneration(tf.LlavaConfig(**shared))
        return Made(model, tf.LlavaProcessor(images, tokenizer, **more), "<image>", tower)
    grids = [[28, 56], [56, 28], [56, 56]]
    tiles = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grids
    )
    model = tf.LlavaNextForConditionalGeneration(tf.LlavaNextConfig(**shared, image_grid_pinpoints=grids))
    return Made(model, tf.LlavaNextProcessor(tiles, tokenizer, **more), "<image>", tower)


def _llava_onevision() -> Made:
    tokenizer = tokenizer_with(image_token="<image>", video_token="<video>")
    config = tf.LlavaOnevisionConfig(
        text_config=text_of("qwen2"),
        vision_config={"model_type": "siglip_vision_model", **EYES, "image_size": 28, "patch_size": 14,
                       "vision_use_head": False},
        image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
        image_token_index=tokenizer.image_token_id, video_token_index=tokenizer.video_token_id,
        vision_aspect_ratio="anyres_max_9", vision_feature_select_strategy="full",
    )  # fmt: skip
    images = tf.LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=config.image_grid_pinpoints
    )
    kind = without_video(tf.LlavaOnevisionProcessor)
    processor = kind(
        images, tokenizer, num_image_tokens=4, vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )  # fmt: skip
    return Made(tf.LlavaOnevisionForConditionalGeneration(config), processor, "<image>", "qwen2")


def _qwen(kind: str) -> Made:
    tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_with(*tokens)
    start, end, picture, video = map(tokenizer.convert_tokens_to_ids, tokens)
    prefix = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    patch = 14
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 64, "patch_size": patch}
    elif kind == "qwen2_5_vl":
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
                  "patch_size": patch, "window_size": 56, "fullatt_block_indexes": [1]}  # fmt: skip
    else:
        patch = 16
        rope |= {"rope_theta": 5e6, "mrope_interleaved": True}
        vision = {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
                  "patch_size": patch, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}  # fmt: skip
    text = {key: value for key, value in TEXT.items() if key != "head_dim" or kind == "qwen3_vl"}
    config = getattr(tf, f"{prefix}Config")(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision | {"spatial_merge_size": 2},
        image_token_id=picture, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
        tie_word_embeddings=False,
    )  # fmt: skip
    images = tf.Qwen2VLImageProcessorPil(min_pixels=patch**2 * 16, max_pixels=patch**2 * 64, patch_size=patch)
    processor = without_video(getattr(tf, f"{prefix}Processor"))(images, tokenizer)
    model = getattr(tf, f"{prefix}ForConditionalGeneration")(config)
    return Made(
        model, processor, "".join((tokens[0], tokens[2], tokens[1])), "qwen3" if kind == "qwen3_vl" else "qwen2"
    )


def _internvl(tower: str) -> Made:
    tokenizer = tokenizer_with(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    config = tf.InternVLConfig(
        text_config=text_of(tower),
        vision_config={**EYES, "image_size": [28, 28], "patch_size": [7, 7]},
        image_token_id=tokenizer.context_image_token_id, image_seq_length=4, downsample_ratio=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    images = tf.GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    processor = without_video(tf.InternVLProcessor)(images, tokenizer, image_seq_length=4)
    return Made(tf.InternVLForConditionalGeneration(config), processor, "<IMG_CONTEXT>", tower)


def _gemma3() -> Made:
    tokenizer = tokenizer_with(
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    config = tf.Gemma3Config(
        text_config=text_of("gemma3_text"),
        vision_config=EYES | {"image_size": 28, "patch_size": 7, "vision_use_head": False},
        mm_tokens_per_image=4, image_token_index=tokenizer.image_token_id, boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id, eos_token_id=2,
    )  # fmt: skip
    images = tf.Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    model = tf.Gemma3ForConditionalGeneration(config)
    return Made(model, tf.Gemma3Processor(images, tokenizer, image_seq_length=4), "<start_of_image>", "gemma3_text")


def _paligemma2() -> Made:
    tokenizer = tokenizer_with(image_token="<image>")
    config = tf.PaliGemmaConfig(
        text_config=text_of("gemma2"),
        vision_config={"model_type": "siglip_vision_model", **EYES, "image_size": 28, "patch_size": 14,
                       "vision_use_head": False},
        image_token_index=tokenizer.image_token_id, projection_dim=64, hidden_size=64,
    )  # fmt: skip
    images = tf.SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    model = tf.PaliGemmaForConditionalGeneration(config)
    return Made(model, tf.PaliGemmaProcessor(images, tokenizer), "<image>", "gemma2")


def _pixtral(kind: str) -> Made:
    tokenizer = tokenizer_with("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    picture = tokenizer.convert_tokens_to_ids("[IMG]")
    vision = {"model_type": "pixtral", **EYES, "head_dim": 16, "image_size": 56, "patch_size": 14}
    if kind == "mistral3":
        config = tf.Mistral3Config(
            text_config=text_of("mistral"),
            vision_config=vision,
            image_token_index=picture,
            spatial_merge_size=2,
            tie_word_embeddings=False,
        )
        model = tf.Mistral3ForConditionalGeneration(config)
    else:
        config = tf.LlavaConfig(
            text_config=text_of("mistral"), vision_config=vision, image_token_index=picture,
            vision_feature_layer=-1, vision_feature_select_strategy="full",
        )  # fmt: skip
        model = tf.LlavaForConditionalGeneration(config)
    merge = 2 if kind == "mistral3" else 1
    images = tf.PixtralImageProcessorPil(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14})
    return Made(
        model,
        processor_class("PixtralProcessor")(images, tokenizer, patch_size=14, spatial_merge_size=merge),
        "[IMG]",
        "mistral",
    )


def _idefics3(kind: str) -> Made:
    tokens = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>"]
    tokens += [f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)]
    tokenizer = tokenizer_with(*tokens)
    prefix = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[kind]
    config = getattr(tf, f"{prefix}Config")(
        text_config=text_of("llama"),
        vision_config=EYES | {"image_size": 28, "patch_size": 7, "max_image_size": {"longest_edge": 28}},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2, tie_word_embeddings=False,
        pad_token_id=2,
    )  # fmt: skip
    images = getattr(tf, f"{prefix}ImageProcessorPil")(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    made = getattr(tf, f"{prefix}Processor")
    video = () if kind == "idefics3" else (None,)
    processor = (without_video(made) if video else made)(images, tokenizer, *video, image_seq_len=4)
    return Made(getattr(tf, f"{prefix}ForConditionalGeneration")(config), processor, "<image>", "llama")


def _aya_vision() -> Made:
    tokens = (
        "<image>",
        "<|START_OF_IMG|>",
        "<|END_OF_IMG|>",
        "<|IMG_PATCH|>",
        "<|IMG_LINE_BREAK|>",
        "TILE",
        "TILE_GLOBAL",
    )
    tokenizer = tokenizer_with(*tokens)
    config = tf.AyaVisionConfig(
        text_config=text_of("cohere2"),
        vision_config={"model_type": "siglip_vision_model", **EYES, "image_size": 28, "patch_size": 7,
                       "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"), downsample_factor=2,
        adapter_layer_norm_eps=1e-6, alignment_intermediate_size=64, vision_feature_select_strategy="full",
    )  # fmt: skip
    images = tf.GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    processor = tf.AyaVisionProcessor(images, tokenizer, patch_size=7, img_size=28, downsample_factor=2)
    return Made(tf.AyaVisionForConditionalGeneration(config), processor, "<image>", "cohere2")


def _qwen3_5() -> Made:
    tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_with(*tokens)
    start, end, picture, video = map(tokenizer.convert_tokens_to_ids, tokens)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    own = {"rope_parameters": rope, "layer_types": ["linear_attention", "full_attention"] * 2}
    linear = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
    config = tf.Qwen3_5Config(
        text_config=TEXT | own | {f"linear_{name}": size for name, size in linear.items()},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
                       "patch_size": 16, "num_position_embeddings": 64},
        image_token_id=picture, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
        tie_word_embeddings=False,
    )  # fmt: skip
    return Made(tf.Qwen3_5ForConditionalGeneration(config), tokenizer, "", "qwen3_5_text")


def _gemma4() -> Made:
    tokenizer = tokenizer_with(image_token="<|image|>")
    own = {"layer_types": ["sliding_attention", "full_attention"] * 2, "global_head_dim": 16}
    own |= {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": TEXT["vocab_size"]}
    config = tf.Gemma4Config(
        text_config=TEXT | GEMMA | own,
        vision_config=EYES | {"patch_size": 14, "num_key_value_heads": 2, "head_dim": 16},
        audio_config=None, image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    return Made(tf.Gemma4ForConditionalGeneration(config), tokenizer, "", "gemma4_text")


def _mllama() -> Made:
    """Layers 1 and 3 of five attend to pictures: the text model has the other three."""
    tokenizer = tokenizer_with(image_token="<|image|>")
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    config = tf.MllamaConfig(
        text_config=text | {"num_hidden_layers": 5, "cross_attention_layers": [1, 3]},
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
                       "attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_output_dim": 64,
                       "intermediate_layers_indices": [0], "max_num_tiles": 4,
                       "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2]]},
        image_token_index=tokenizer.image_token_id,
    )  # fmt: skip
    return Made(tf.MllamaForConditionalGeneration(config), tokenizer, "", "llama")


FAMILIES: dict[str, Callable[[], Made]] = {
    "llava": lambda: _llava("llava", "llama"),
    "llava_next": lambda: _llava("llava_next"),
    "llava_onevision": _llava_onevision,
    "qwen2_vl": lambda: _qwen("qwen2_vl"),
    "qwen2_5_vl": lambda: _qwen("qwen2_5_vl"),
    "qwen3_vl": lambda: _qwen("qwen3_vl"),
    "internvl3": lambda: _internvl("qwen2"),
    "internvl3_5": lambda: _internvl("qwen3"),
    "gemma3": _gemma3,
    "paligemma2": _paligemma2,
    "pixtral": lambda: _pixtral("llava"),
    "mistral3": lambda: _pixtral("mistral3"),
    "idefics3": lambda: _idefics3("idefics3"),
    "smolvlm": lambda: _idefics3("smolvlm"),
    "aya_vision": _aya_vision,
}
# Families that are merged and not asked; in place of a processor they have a tokenizer.
UNASKED: dict[str, Callable[[], Made]] = {"qwen3_5": _qwen3_5, "gemma4": _gemma4, "mllama": _mllama}
# The same families with their other towers.
OTHER_TOWERS: dict[str, Callable[[], Made]] = {
    "llava_mistral": lambda: _llava("llava"),
    "llava_qwen2": lambda: _llava("llava", "qwen2"),
    "llava_next_llama": lambda: _llava("llava_next", "llama"),
    "llava_next_qwen2": lambda: _llava("llava_next", "qwen2"),
}
# What the pages call them.
PROPER = {
    "llava": "LLaVA 1.5",
    "llava_next": "LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "internvl3": "InternVL3",
    "internvl3_5": "InternVL3.5",
    "gemma3": "Gemma 3",
    "paligemma2": "PaliGemma 2",
    "pixtral": "Pixtral",
    "mistral3": "Mistral Small 3.1",
    "idefics3": "Idefics3",
    "smolvlm": "SmolVLM",
    "aya_vision": "Aya Vision",
    "qwen3_5": "Qwen3.5",
    "gemma4": "Gemma 4",
    "mllama": "Llama 3.2 Vision",
}
assert set(PROPER) == set(FAMILIES | UNASKED)
# Every path and position that families differ in; the others are tested in the slow lane.
QUICK = ("llava_next", "qwen2_5_vl", "qwen3_vl", "gemma3")
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


def to_trained_scale(model: Any, seed: int) -> None:
    """Draw a model's matrices as large as a trained model's, so that every part of it shows in its logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                rows = parameter.shape[-1] if parameter.ndim == 2 else parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * min(1.0, 1.5 * rows**-0.5))


def save_family(name: str, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Made:
    """Save a family's model and processor into a folder; its parts. Weights are large enough for pictures to matter."""
    torch.manual_seed(seed)
    made = (FAMILIES | UNASKED | OTHER_TOWERS)[name]()
    if name in FAMILIES:
        made.processor.chat_template = LAYOUTS.get(name)
    to_trained_scale(made.model, seed)
    made.model.to(dtype).save_pretrained(folder)
    made.processor.save_pretrained(folder)
    return made
