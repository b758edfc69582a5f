"""The zoo's VLM converted to tiles, as in LLaVA-NeXT, because the zoo's own images have one tile each.

Knows the zoo's scenes and its VLM; no candidates and no scores. The same weights become a LLaVA-NeXT, which sees a
scene of twice the side length as four tiles plus the whole image scaled down; all of it is then tuned on such images.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoProcessor,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from evovlm.tasks import Item
from evovlm.zoo.prompts import IMAGE_SIZE, VQA_PROMPT
from evovlm.zoo.render import render
from evovlm.zoo.scenes import SceneQuestion, sample_questions
from evovlm.zoo.splits import Split
from evovlm_benchmarks.speed.watched import watched

SIDE = 2 * IMAGE_SIZE
RATE = 3e-4
IGNORED = -100


def tiled_items(split: Split, count: int, seed: int) -> list[Item]:
    """Japanese questions as in the zoo's VQA task, about images of twice the side length."""
    return [
        Item(found.id, found.question, found.references, partial(render, found.scene, SIDE))
        for found in sample_questions(split, count, seed, "ja")
    ]


def save_tiled(source: Path, folder: Path, *, steps: int, batch: int, device: torch.device, seed: int = 0) -> float:
    """Convert the VLM in `source` to tiles, tune it for `steps`, write it; returns the mean loss of the last tenth.

    Questions are English and from the train split, as for the zoo's own VLM.
    """
    torch.manual_seed(seed)
    plain = LlavaForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    model = _with_tiles(plain).to(device)
    processor = _processor(source)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    losses: list[Tensor] = []
    for inputs in watched(_batches(processor, steps, batch, seed), "tiles: tuning", steps):
        loss = model(**{name: value.to(device) for name, value in inputs.items()}).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    model.to("cpu", torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    return float(torch.stack(losses[-max(1, steps // 10) :]).mean())


def _with_tiles(plain: LlavaForConditionalGeneration) -> LlavaNextForConditionalGeneration:
    own = plain.config
    config = LlavaNextConfig(
        vision_config=own.vision_config, text_config=own.text_config, image_token_index=own.image_token_id,
        image_grid_pinpoints=[[SIDE, SIDE]], vision_feature_layer=own.vision_feature_layer,
        vision_feature_select_strategy=own.vision_feature_select_strategy, tie_word_embeddings=False,
        projector_hidden_act=own.projector_hidden_act, multimodal_projector_bias=own.multimodal_projector_bias,
    )  # fmt: skip
    model = LlavaNextForConditionalGeneration(config)
    missing, unknown = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing == ["model.image_newline"], missing
    assert not unknown, unknown
    with torch.no_grad():
        model.model.image_newline.zero_()
    model.generation_config = plain.generation_config
    return model


def _processor(source: Path) -> LlavaNextProcessor:
    known: Any = AutoProcessor.from_pretrained(source)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size=side, image_grid_pinpoints=[[SIDE, SIDE]],
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return LlavaNextProcessor(
        image_processor=images, tokenizer=known.tokenizer, patch_size=known.patch_size, image_token=known.image_token,
        vision_feature_select_strategy=known.vision_feature_select_strategy,
        num_additional_image_tokens=known.num_additional_image_tokens,
    )  # fmt: skip


def _batches(processor: Any, steps: int, batch: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Batches of prompts with answers, drawn with replacement from at most 3,000 questions."""
    asked = sample_questions("train", min(steps * batch, 3000), seed, "en")
    drawn = [render(one.scene, SIDE) for one in asked]
    pictures = processor.image_processor(drawn, return_tensors="pt")
    first = processor(text=processor.image_token, images=drawn[0], return_tensors="pt")["input_ids"]
    tokens = int((first == processor.image_token_id).sum())  # per image; all have the same size
    rng = random.Random(seed)
    for _ in range(steps):
        chosen = rng.choices(range(len(asked)), k=batch)
        inputs = _tokens_and_labels(processor, [asked[index] for index in chosen], tokens)
        yield inputs | {name: pictures[name][chosen] for name in ("pixel_values", "image_sizes")}


def _tokens_and_labels(processor: Any, asked: Sequence[SceneQuestion], tokens: int) -> dict[str, Tensor]:
    """Token ids, mask and labels of prompts with answers, padded on the right; only answer tokens have labels."""
    tokenizer = processor.tokenizer
    picture = processor.image_token * tokens
    rows = []
    for one in asked:
        text = VQA_PROMPT.replace("<image>", picture).replace("{question}", one.question)
        answer = tokenizer(one.references[0], add_special_tokens=False)["input_ids"]
        rows.append((tokenizer(text)["input_ids"], [*answer, tokenizer.eos_token_id]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        labels[row, len(prompt) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
