"""The transformers engine: one resident model whose tower a candidate overwrites, and its answers.

Knows transformers; no recipes, tasks' scores or searches. Answers depend on weights, prompts and settings alone;
in float32 not on the batch either (tested). Greedy decoding runs in a loop of our own on the live weights, with
finished rows dropped; beams and penalties go through `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    DynamicCache,
)
from transformers.utils.logging import disable_progress_bar

from evovlm.engines.prompts import Prepared, Prompt, plan_batches, see, tokenize
from evovlm.tasks.protocol import Generation, Item

# Progress is shown by whoever asks for answers, not by every load.
disable_progress_bar()

# Below this share of unfinished rows, the finished ones are taken out of the cache.
WORTH_DROPPING = 0.75


class Engine:
    """A model in memory with its tokenizer or processor. `tower`: canonical name -> live parameter."""

    def __init__(self, model: Any, processor: Any, *, sees: bool) -> None:
        self.model = model
        self.sees = sees
        self.processor = processor
        self.tokenizer = processor.tokenizer if sees else processor
        text = model.model.language_model if sees else model.model
        self._text = text
        self.tower = {f"model.{name}": parameter for name, parameter in text.named_parameters()}
        if model.lm_head.weight is not text.embed_tokens.weight:
            self.tower["lm_head.weight"] = model.lm_head.weight
        ends = model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self._ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=model.device)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Engine:
        """Load a checkpoint folder; `dtype` None keeps the stored one. Remote code is never run."""
        config = AutoConfig.from_pretrained(folder)
        sees = hasattr(config, "vision_config")
        kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        model = kind.from_pretrained(folder, dtype=dtype if dtype is not None else "auto", use_safetensors=True)
        model = model.to(device).eval().requires_grad_(False)
        reader: Any = AutoProcessor if sees else AutoTokenizer
        return cls(model, reader.from_pretrained(folder), sees=sees)

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def prepare(self, items: Sequence[Item], generation: Generation, batch: int) -> Prepared:
        """Tokens, vision features and the batch plan of a set of items.

        Raises DataError for an image that cannot be read.
        """
        if self.sees:
            prompts = see(self.model, self.processor, items, generation)
        else:
            texts = [generation.template.replace("{question}", item.question) for item in items]
            prompts = [Prompt(tokenize(self.tokenizer, text).to(self.model.device), None) for text in texts]
        return Prepared(prompts, generation, plan_batches([len(prompt.ids) for prompt in prompts], batch))

    @torch.inference_mode()
    def answer(self, prepared: Prepared, progress: Callable[[int], None] | None = None) -> list[str]:
        """One answer an item, in item order, stripped.

        A batch that does not fit into memory is halved and tried again. Raises FloatingPointError for logits
        that are not finite, torch.OutOfMemoryError where a single row does not fit.
        """
        answers = [""] * len(prepared.prompts)
        waiting = list(prepared.batches)
        while waiting:
            batch = waiting.pop(0)
            try:
                made = self._decode([prepared.prompts[index] for index in batch], prepared.generation)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                half = len(batch) // 2
                waiting[:0] = [batch[:half], batch[half:]]
                continue
            for index, text in zip(batch, made, strict=True):
                answers[index] = text
            if progress is not None:
                progress(len(batch))
        return answers

    def _decode(self, prompts: Sequence[Prompt], generation: Generation) -> list[str]:
        embeddings, mask = self._embed(prompts)
        if generation.num_beams == 1 and generation.repetition_penalty == 1.0:
            tokens = self._greedy(embeddings, mask, generation.max_new_tokens)
        else:
            tokens = self.model.generate(
                inputs_embeds=embeddings,
                attention_mask=mask,
                do_sample=False,
                num_beams=generation.num_beams,
                repetition_penalty=generation.repetition_penalty,
                max_new_tokens=generation.max_new_tokens,
            )
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _embed(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Left-padded embeddings [batch, length, hidden] from the live table, and the mask [batch, length]."""
        longest = max(len(prompt.ids) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64, device=self.model.device)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :] = prompt.ids
            mask[row, longest - len(prompt.ids) :] = 1
        embeddings = self._text.embed_tokens(ids)
        features = [prompt.features for prompt in prompts if prompt.features is not None]
        if features:
            places = (ids == self.model.config.image_token_id) & (mask == 1)
            embeddings[places] = torch.cat(features).to(embeddings.dtype)
        return embeddings, mask

    def _greedy(self, embeddings: Tensor, mask: Tensor, most: int) -> Tensor:
        """Greedy tokens int64 [batch, steps], filled up with the first end token."""
        rows = len(embeddings)
        made = torch.full((rows, most), int(self._ends[0]), dtype=torch.int64, device=embeddings.device)
        alive = torch.arange(rows, device=embeddings.device)  # which row of `made` each row of the cache is
        cache = DynamicCache(config=self._text.config)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        step_input: dict[str, Tensor] = {"inputs_embeds": embeddings}
        for step in range(most):
            hidden = self._text(
                **step_input, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits = self.model.lm_head(hidden[:, -1]).float()
            best, chosen = logits.max(dim=-1)
            if not bool(torch.isfinite(best).all()):
                raise FloatingPointError("the logits are not finite")
            made[alive, step] = chosen
            going = ~torch.isin(chosen, self._ends)
            count = int(going.sum())
            if count == 0:
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if count <= WORTH_DROPPING * len(going):
                kept = going.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                alive, chosen, mask, positions = alive[kept], chosen[kept], mask[kept], positions[kept]
            step_input = {"input_ids": chosen.unsqueeze(1)}
        return _after_end(made, self._ends)


def _after_end(tokens: Tensor, ends: Tensor) -> Tensor:
    """Whatever stands behind a row's first end token becomes an end token."""
    ending = torch.isin(tokens, ends).long()
    return torch.where(ending.cumsum(dim=1) - ending > 0, ends[0], tokens)
