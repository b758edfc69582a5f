"""Prepared prompts: tokens and vision features, made once and used by every candidate.

Knows transformers' processors and the image protocol of LLaVA; merges and scores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from evovlm.errors import DataError
from evovlm.tasks.protocol import Generation, Item


@dataclass(frozen=True)
class Prompt:
    """One question as token ids, and its image's features [image tokens, hidden] where it has one."""

    ids: Tensor  # int64 [length]
    features: Tensor | None


@dataclass
class Prepared:
    """Prompts in item order and the batch plan: indices sorted by length, equal lengths in item order."""

    prompts: list[Prompt]
    generation: Generation
    batches: list[list[int]]


def plan_batches(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Item indices in batches of like length, the longest first, so that memory runs out early or never."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def open_image(item: Item) -> Image.Image:
    """The item's picture as RGB. Raises DataError that names the item."""
    assert item.image is not None
    try:
        return item.image().convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"item {item.id}: its image cannot be read ({error}); replace the file or drop the item"
        ) from None


def tokenize(tokenizer: Any, text: str) -> Tensor:
    """Token ids of one prompt, special tokens as the tokenizer adds them: int64 [length]."""
    ids: Tensor = tokenizer(text, return_tensors="pt")["input_ids"][0]
    return ids


@torch.inference_mode()
def see(model: Any, processor: Any, items: Sequence[Item], generation: Generation) -> list[Prompt]:
    """Prompts of items with images: the processor's tokens, and features from the model's own eyes."""
    prompts: list[Prompt] = []
    for item in items:
        text = generation.template.replace("{question}", item.question)
        inputs = processor(text=text, images=open_image(item), return_tensors="pt").to(model.device)
        pixels = inputs["pixel_values"].to(model.dtype)
        more = {"image_sizes": inputs["image_sizes"]} if "image_sizes" in inputs else {}
        features = model.get_image_features(pixel_values=pixels, **more).pooler_output
        prompts.append(Prompt(inputs["input_ids"][0], torch.cat(list(features), dim=0)))
    return prompts
