"""Engines of real shapes with random weights, made on the device: nothing is read and nothing is downloaded.

Knows the configuration of LLaVA-1.6-Mistral-7B; measures nothing.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    CLIPVisionConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prompt

VOCABULARY = 32064
IMAGE_TOKEN = 32000
PAD_TOKEN = 32001
IMAGE_SIZE = 672  # four tiles and the whole picture small: 2,928 tokens
TILES = 5
SHAPES: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 16},
    "7b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13b": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}


def configuration(size: str) -> Any:
    """LLaVA-1.6 with a Mistral tower of a size in SHAPES and the eyes of CLIP-L/14-336."""
    heads = 8
    text = MistralConfig(
        vocab_size=VOCABULARY, num_key_value_heads=heads, max_position_embeddings=32768, rope_theta=1e6,
        sliding_window=None, tie_word_embeddings=False, rms_norm_eps=1e-5, **SHAPES[size],
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )  # fmt: skip
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, image_grid_pinpoints=pinpoints,
        tie_word_embeddings=False,
    )  # fmt: skip


def random_engine(size: str, device: str, seed: int = 0) -> Engine:
    """An engine of random bfloat16 weights; no token ends an answer, so that all are of full length."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlavaNextForConditionalGeneration(configuration(size))
    finally:
        torch.set_default_dtype(before)
    model = model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = VOCABULARY + 1
    model.generation_config.pad_token_id = PAD_TOKEN
    return Engine(model, SimpleNamespace(tokenizer=_tokenizer()), sees=True)


def random_pixels(images: int, device: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """What a processor makes of square pictures: pixel_values [images, tiles, 3, 336, 336], image_sizes [images, 2]."""
    stream = torch.Generator(device).manual_seed(seed)
    shape = (images, TILES, 3, 336, 336)
    pixels = torch.randn(shape, generator=stream, device=device, dtype=torch.bfloat16)
    return {"pixel_values": pixels, "image_sizes": torch.full((images, 2), IMAGE_SIZE, device=device)}


@torch.inference_mode()
def prompts_of(
    engine: Engine, pixels: dict[str, torch.Tensor], each: int, words: int = 40, seed: int = 0
) -> list[Prompt]:
    """`each` questions about each picture: 4 tokens, the picture's, and `words` tokens of question, 36 the least."""
    stream = torch.Generator().manual_seed(seed)
    prompts = []
    for index in range(len(pixels["pixel_values"])):
        one = {name: value[index : index + 1] for name, value in pixels.items()}
        features = torch.cat(list(engine.model.get_image_features(**one).pooler_output))
        for number in range(each):
            # Questions differ in length, as people's do.
            length = words - 4 + int(torch.randint(0, 9, (1,), generator=stream))
            begin = torch.tensor([1, 733, 16289, 28793])
            question = torch.randint(3, IMAGE_TOKEN, (length,), generator=stream)
            ids = torch.cat([begin, torch.full((len(features),), IMAGE_TOKEN), question])
            prompts.append(Prompt(ids.to(engine.model.device), features, f"{index}-{number}"))
    return prompts


def _tokenizer() -> Any:
    words = models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token=f"w{PAD_TOKEN}", unk_token="w0")
