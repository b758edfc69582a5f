"""The transformers engine: one resident model whose tower a candidate overwrites, and its answers.

Knows transformers; no recipes, tasks' scores or searches. Greedy or sampled answers of the families that are known
take the lean path on the live weights; other layers and routes run in a loop over transformers' own layers; beams and
penalties go through `generate`.

The same weights, prompts, settings and batch plan give the same answers on the same device, libraries and thread
count. Any of these moves the last bits of the logits, which shows only where two tokens all but tie: in float32 the
batch was seen to change no answer (tested at 1 and 16), in bfloat16 it may change some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    DynamicCache,
    LogitsProcessorList,
)
from transformers.utils.logging import disable_progress_bar

from evovlm.engines._lean import Lean
from evovlm.engines._sampling import Choose, after_end, refuse_nan, sampler
from evovlm.engines._tower_view import view_of
from evovlm.engines.memory import is_out_of_memory
from evovlm.engines.prompts import Prepared, Prompt, blind, complete_processor, cut, prepared_of, see
from evovlm.engines.schedule import STOP_EVERY, Spent
from evovlm.merging.live.lazy import Pending
from evovlm.system.device import check_device
from evovlm.system.errors import CheckpointError
from evovlm.tasks.protocol import Generation, Item

# Progress is shown by whoever asks for answers, not by every load.
disable_progress_bar()

# What transformers raises for a folder that is incomplete, damaged or of a model that it does not know.
LOADING_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError),
    *(SafetensorError, StrictDataclassError),
)

# Below this share of unfinished rows, the finished ones are taken out of the cache.
WORTH_DROPPING = 0.75


Around = Callable[[Sequence[Prompt]], AbstractContextManager[Any]]


class Engine:
    """A model in memory with its tokenizer or processor.

    tower: canonical name -> live parameter. pending: what of them is still to be merged, which answering does.
    lean: whether to take the fast path where it knows the model's layers, as they are; not for routes.
    around: entered with a batch's prompts while these are answered in the loop over transformers' layers.
    """

    spent: Spent | None = None  # the last answering's seconds and work by phase, where it took the fast path

    def __init__(
        self, model: Any, processor: Any, *, sees: bool, lean: bool = True, around: Around = nullcontext
    ) -> None:
        self.model = model
        self.sees = sees
        self.processor = processor
        self.tokenizer = processor.tokenizer if sees else processor
        text = model.model.language_model if sees else model.model
        self.decoder = text
        self.tower = {f"model.{name}": parameter for name, parameter in text.named_parameters()}
        if model.lm_head.weight is not text.embed_tokens.weight:
            self.tower["lm_head.weight"] = model.lm_head.weight
        ends = model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        if ends is None:
            raise CheckpointError(f"{model.name_or_path}: no end token; set `eos_token_id` in generation_config.json")
        self._ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=model.device)
        self.pending = Pending()
        self._around = around
        self.lean: Lean | None = self._fast_path() if lean else None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Engine:
        """Load a checkpoint folder; `dtype` None keeps the stored one. Remote code is never run.

        Raises CheckpointError for a folder that transformers cannot load, UserError for a device that is not there.
        """
        try:
            config = AutoConfig.from_pretrained(folder)
            sees = hasattr(config, "vision_config")
            kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            model = kind.from_pretrained(folder, dtype=dtype if dtype is not None else "auto", use_safetensors=True)
            reader: Any = AutoProcessor if sees else AutoTokenizer
            processor = reader.from_pretrained(folder)
        except torch.OutOfMemoryError:
            raise
        except LOADING_FAULTS as error:
            raise CheckpointError(
                f"{folder}: transformers cannot load it ({error}); complete the folder or fetch it again"
            ) from error
        check_device(str(device))
        model = model.to(device).eval().requires_grad_(False)
        if sees:
            complete_processor(processor, model)
        return cls(model, processor, sees=sees)

    def _fast_path(self) -> Lean | None:
        view = view_of(self.model, self.decoder)
        if view is None:
            return None
        image_token = self.model.config.image_token_id if self.sees else None
        return Lean(replace(view, pending=self.pending), self.tokenizer, self._ends, image_token)

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

        Equal images are seen once. Raises DataError for an image that cannot be read.
        """
        if self.sees:
            prompts = see(self.model, self.processor, items, generation)
        else:
            prompts = [
                Prompt(blind(self.tokenizer, item, generation).to(self.model.device), None, item.id) for item in items
            ]
        return prepared_of(prompts, generation, batch)

    @torch.inference_mode()
    def answer(self, prepared: Prepared, progress: Callable[[int], None] | None = None) -> list[str]:
        """One answer an item, in item order, stripped. `progress` hears how many items each batch answered.

        A batch that does not fit into memory is halved in the plan, told in `prepared.halved`, and tried again.
        Raises FloatingPointError for logits that are not finite, and torch.OutOfMemoryError or MemoryError where
        a single row does not fit.
        """
        self.spent = None
        if self.lean is not None and self.lean.serves(prepared):
            answered = self.lean.answer(prepared, progress)
            self.spent = self.lean.spent
            return answered
        self.pending.finish()
        answers = [""] * len(prepared.prompts)
        done = 0
        while done < len(prepared.batches):
            batch = prepared.batches[done]
            made = self._decode_or_none([prepared.prompts[index] for index in batch], prepared.generation)
            if made is None:
                half = (len(batch) + 1) // 2
                prepared.halved.append(len(batch))
                prepared.batches[done : done + 1] = [batch[:half], batch[half:]]
                if self.model.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            for index, text in zip(batch, made, strict=True):
                answers[index] = text
            if progress is not None:
                progress(len(batch))
            done += 1
        return answers

    @torch.inference_mode()
    def stream(self, prepared: Prepared) -> Iterator[tuple[str, int]]:
        """The answer to a set of one prompt as it grows: (text so far, tokens so far) after each token.

        The last text is what `answer` gives. Beams and penalties cannot be streamed: one step, the whole answer.
        Closing the iterator stops the work. Raises what `answer` raises.
        """
        prompt, generation = prepared.prompts[0], prepared.generation
        assert len(prepared.prompts) == 1, "one prompt a stream"
        if generation.num_beams > 1 or generation.repetition_penalty != 1.0:
            whole = self.answer(prepared)[0]
            yield whole, len(self.tokenizer(whole, add_special_tokens=False)["input_ids"])
            return
        self.pending.finish()
        ids, mask = self._pad([prompt])
        step_input: dict[str, Tensor] = {"inputs_embeds": self._embed([prompt], ids, mask)}
        cache = DynamicCache(config=self.decoder.config)
        made: list[int] = []
        choose = sampler(generation, [prompt.key])
        while len(made) < generation.max_new_tokens:
            hidden = self.decoder(**step_input, past_key_values=cache, use_cache=True).last_hidden_state
            best, chosen = choose(self.model.lm_head(hidden[:, -1]).float(), torch.zeros(1, dtype=torch.int64))
            refuse_nan(chosen, best)
            if bool(torch.isin(chosen, self._ends)):
                break
            made.append(int(chosen))
            text = self.tokenizer.decode(made, skip_special_tokens=True)
            kept = cut(text, generation.stop)
            # A character of several bytes may be half there: what is shown then ends before it.
            shown = kept if len(made) == generation.max_new_tokens else kept.rstrip("\ufffd")
            yield shown.strip(), len(made)
            if len(kept) < len(text):
                break
            step_input = {"input_ids": chosen.unsqueeze(1)}

    def _decode_or_none(self, prompts: Sequence[Prompt], generation: Generation) -> list[str] | None:
        """The answers, or None where they do not fit into memory; what the attempt held is free by then."""
        try:
            with self._around(prompts):
                return self._decode(prompts, generation)
        except (MemoryError, RuntimeError) as error:
            if len(prompts) == 1 or not is_out_of_memory(error):
                raise
        return None

    def _decode(self, prompts: Sequence[Prompt], generation: Generation) -> list[str]:
        ids, mask = self._pad(prompts)
        embeddings = self._embed(prompts, ids, mask)
        choose = sampler(generation, [prompt.key for prompt in prompts])
        if generation.num_beams == 1 and generation.repetition_penalty == 1.0:
            tokens = self._one_by_one(embeddings, mask, generation.max_new_tokens, choose, generation.stop)
        else:
            # The ids go along because the penalty is on the prompt's tokens too.
            whole = self.model.generate(
                input_ids=ids,
                inputs_embeds=embeddings,
                attention_mask=mask,
                do_sample=False,
                num_beams=generation.num_beams,
                repetition_penalty=generation.repetition_penalty,
                max_new_tokens=generation.max_new_tokens,
                logits_processor=LogitsProcessorList([refuse_nan]),
            )
            tokens = whole[:, ids.shape[1] :]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [cut(text, generation.stop).strip() for text in texts]

    def _pad(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask int64 [batch, length], padded on the left."""
        longest = max(len(prompt.ids) for prompt in prompts)
        padding = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(prompts), longest), padding, dtype=torch.int64, device=self.model.device)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :] = prompt.ids
            mask[row, longest - len(prompt.ids) :] = 1
        return ids, mask

    def _embed(self, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [batch, length, hidden] from the live table, image features at the image tokens."""
        embeddings: Tensor = self.decoder.embed_tokens(ids)
        features = [prompt.features for prompt in prompts if prompt.features is not None]
        if features:
            places = (ids == self.model.config.image_token_id) & (mask == 1)
            embeddings[places] = torch.cat(features).to(embeddings.dtype)
        return embeddings

    def _one_by_one(
        self, embeddings: Tensor, mask: Tensor, most: int, choose: Choose, stop: Sequence[str] = ()
    ) -> Tensor:
        """Tokens int64 [batch, steps], greedy or drawn, filled up with the first end token.

        A row that has said a stop string may end then: what would follow is cut off anyway.
        """
        rows = len(embeddings)
        made = torch.full((rows, most), int(self._ends[0]), dtype=torch.int64, device=embeddings.device)
        alive = torch.arange(rows, device=embeddings.device)  # which row of `made` each row of the cache is
        cache = DynamicCache(config=self.decoder.config)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        step_input: dict[str, Tensor] = {"inputs_embeds": embeddings}
        for step in range(most):
            hidden = self.decoder(
                **step_input, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits = self.model.lm_head(hidden[:, -1]).float()
            best, chosen = choose(logits, alive)
            refuse_nan(chosen, best)
            made[alive, step] = chosen
            going = ~torch.isin(chosen, self._ends)
            if stop and (step + 1) % STOP_EVERY == 0:
                said = self.tokenizer.batch_decode(made[alive, : step + 1], skip_special_tokens=True)
                going &= torch.tensor([cut(text, stop) == text for text in said], device=going.device)
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
        return after_end(made, self._ends)
