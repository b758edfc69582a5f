"""Engines with real shapes and random weights, created on the device; nothing is read or downloaded.

Knows the configuration of LLaVA-1.6-Mistral-7B; measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from evovlm_benchmarks.merge_speed import Scale

TILES = 5  # of a square image: four tiles, and the whole image scaled down


@dataclass(frozen=True)
class Eyes:
    """The size of a CLIP vision tower; `tile` and `patch` are side lengths in pixels."""

    hidden: int
    layers: int
    tile: int
    patch: int = 14

    @property
    def base_tokens(self) -> int:
        """Tokens of the base tile, which is the whole image scaled down."""
        return (self.tile // self.patch) ** 2


FULL_EYES = Eyes(1024, 24, 336)  # CLIP-L/14-336: 576 tokens per tile, 2,928 per square image
SMALL_EYES = Eyes(64, 2, 84)  # 36 tokens per tile, 192 per square image


def configuration(tower: Scale, eyes: Eyes) -> Any:
    """A LLaVA-1.6 configuration with a Mistral tower of that size; the last two token ids are image and padding."""
    text = MistralConfig(
        vocab_size=tower.vocabulary, hidden_size=tower.hidden, intermediate_size=tower.intermediate,
        num_hidden_layers=tower.layers, num_attention_heads=tower.heads, num_key_value_heads=tower.key_value_heads,
        max_position_embeddings=32768, rope_theta=1e6, sliding_window=None, tie_word_embeddings=False,
        rms_norm_eps=1e-5,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=eyes.hidden, intermediate_size=4 * eyes.hidden, num_hidden_layers=eyes.layers,
        num_attention_heads=eyes.hidden // 64, image_size=eyes.tile, patch_size=eyes.patch, projection_dim=768,
    )  # fmt: skip
    side = eyes.tile
    return LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=tower.vocabulary - 2,
        image_grid_pinpoints=[[side, 2 * side], [2 * side, side], [2 * side, 2 * side]], tie_word_embeddings=False,
    )  # fmt: skip


def random_engine(tower: Scale, eyes: Eyes, device: torch.device, seed: int = 0) -> Engine:
    """An engine with random bfloat16 weights; no token ends an answer, so that all answers have full length."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlavaNextForConditionalGeneration(configuration(tower, eyes))
    finally:
        torch.set_default_dtype(before)
    model = model.eval().requires_grad_(False)
    model.generation_config.pad_token_id = tower.vocabulary - 1
    tokenizer = _tokenizer(tower.vocabulary)
    return Engine(model, SimpleNamespace(tokenizer=tokenizer), sees=True, ends=[tower.vocabulary + 1])


def random_pixels(images: int, eyes: Eyes, device: torch.device, seed: int = 0) -> dict[str, torch.Tensor]:
    """A processor's output for square images: pixel_values [images, tiles, 3, side, side], image_sizes [images, 2]."""
    stream = torch.Generator(device).manual_seed(seed)
    shape = (images, TILES, 3, eyes.tile, eyes.tile)
    pixels = torch.randn(shape, generator=stream, device=device, dtype=torch.bfloat16)
    return {"pixel_values": pixels, "image_sizes": torch.full((images, 2), 2 * eyes.tile, device=device)}


@torch.inference_mode()
def prompts_of(
    engine: Engine, pixels: dict[str, torch.Tensor], each: int, words: int = 40, seed: int = 0
) -> list[Prompt]:
    """`each` questions per image: 4 tokens, the image's tokens, and about `words` (-4 to +4) tokens of question."""
    stream = torch.Generator().manual_seed(seed)
    image_token = engine.model.config.image_token_id
    prompts = []
    for index in range(len(pixels["pixel_values"])):
        one = {name: value[index : index + 1] for name, value in pixels.items()}
        features = torch.cat(list(engine.model.get_image_features(**one).pooler_output))
        for number in range(each):
            # Questions differ in length, as real ones do.
            length = words - 4 + int(torch.randint(0, 9, (1,), generator=stream))
            begin = torch.tensor([1, 733, 162, 287])
            question = torch.randint(3, image_token, (length,), generator=stream)
            ids = torch.cat([begin, torch.full((len(features),), image_token), question])
            prompts.append(Prompt(ids.to(engine.model.device), features, f"{index}-{number}"))
    return prompts


def base_tile_alone(prompts: Sequence[Prompt], engine: Engine, eyes: Eyes) -> list[Prompt]:
    """The same questions with only the base tile, whose tokens come first."""
    image_token, kept = engine.model.config.image_token_id, eyes.base_tokens
    fewer: dict[int, torch.Tensor] = {}
    found = []
    for prompt in prompts:
        assert prompt.features is not None
        features = fewer.setdefault(id(prompt.features), prompt.features[:kept].clone())
        images = prompt.ids == image_token
        ids = prompt.ids[~images | (images.cumsum(dim=0) <= kept)]
        found.append(Prompt(ids, features, prompt.key))
    return found


def _tokenizer(vocabulary: int) -> Any:
    words = models.WordLevel({f"w{number}": number for number in range(vocabulary)}, unk_token="w0")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token=f"w{vocabulary - 1}", unk_token="w0")
