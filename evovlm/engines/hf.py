"""The transformers engine: one resident model whose tower is overwritten by each candidate, and its answers.

Knows transformers; no recipes, task scores or searches. Greedy or sampled answers of supported families take the lean
path on the live weights; other layers and routes run in a loop over transformers' own layers; beams and penalties use
`generate`.

The same weights, prompts, settings and batch plan give the same answers on the same device, libraries and thread
count. Any of these changes the last bits of the logits, which matters only if two tokens are almost tied: in float32
the batch size changed no answer (tested at 1 and 16), in bfloat16 it may change some.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, LogitsProcessorList
from transformers.utils.logging import disable_progress_bar

from evovlm.engines._lean import Lean
from evovlm.engines._loading import load_sound
from evovlm.engines._positions import after, decoder_of, first_context
from evovlm.engines._probes import STEPS, forced
from evovlm.engines._sampling import Choose, after_end, refuse_nan, sampler
from evovlm.engines._self_check import check_engine
from evovlm.engines._soundness import ends_of, known_kind, read_one_token, refuse_unfit, warn_of_long
from evovlm.engines._tower_view import view_of
from evovlm.engines.prompts import Prepared, Prompt, blind, complete_processor, cut, prepared_of, see
from evovlm.engines.schedule import STOP_EVERY, Spent
from evovlm.merging.live.lazy import Pending
from evovlm.models.experts import by_expert
from evovlm.models.families import family_of
from evovlm.models.library_faults import explained
from evovlm.system.device import check_device
from evovlm.system.errors import DataError
from evovlm.system.faults import is_out_of_memory
from evovlm.tasks.protocol import Generation, Item

log = logging.getLogger(__name__)

# Callers show their own progress; loading a model should not.
disable_progress_bar()

# If at most this share of rows is unfinished, the finished ones are removed from the cache.
WORTH_DROPPING = 0.75
Around = Callable[[Sequence[Prompt]], AbstractContextManager[Any]]


class Engine:
    """A model in memory with its tokenizer or processor.

    sees: whether it is a vision-language model. tower: canonical name -> live parameter. pending: the unfinished part
    of a merge into the tower; answering finishes it. lean: use the fast path if it supports the model's layers; must be
    off for routes. around: context entered with a batch's prompts while the loop over transformers' layers answers.
    ends: end tokens; None: as the model says. Raises CheckpointError if the model has no end token.
    """

    spent: Spent | None = None  # seconds and work by phase of the last answers, if they took the fast path

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        sees: bool,
        lean: bool = True,
        around: Around = nullcontext,
        ends: Sequence[int] | None = None,
    ) -> None:
        self.model = model
        self.sees = sees
        self.processor = processor
        self.tokenizer = processor.tokenizer if sees else processor
        text = decoder_of(model, sees=sees)
        self.decoder = text
        self.tower = {f"model.{name}": parameter for name, parameter in by_expert(text.named_parameters()).items()}
        if model.lm_head.weight is not text.embed_tokens.weight:
            self.tower["lm_head.weight"] = model.lm_head.weight
        self._rows = len(text.embed_tokens.weight)
        ends = ends_of(model, self.tokenizer, self._rows) if ends is None else ends
        self._ends = torch.tensor(ends, device=model.device)
        self.pending = Pending()
        self._around = around
        self.lean: Lean | None = self._fast_path() if lean else None

    @classmethod
    def load(
        cls, folder: Path, device: str = "cpu", dtype: torch.dtype | None = None, *, self_check: bool = True
    ) -> Engine:
        """Load a checkpoint folder; `dtype` None keeps the stored dtype. Remote code is never run.

        self_check: compare the engine's logits with those of the model's own forward pass (see `check`). Raises
        CheckpointError if transformers cannot load the folder, the check fails, weights are missing, of another shape
        or not finite, or token ids do not fit the embedding table; MachineFault if the machine lacks memory; UserError
        if the device is not available.
        """
        model, processor, sees = load_sound(folder, dtype)
        check_device(str(device))
        model = model.to(device).eval().requires_grad_(False)
        if sees:
            with explained(folder, "its processor does not fit its model"):
                complete_processor(processor, model)
        with known_kind(folder, model):
            engine = cls(model, processor, sees=sees)
            engine.check(str(folder)) if self_check else read_one_token(engine.decoder)
        return engine

    @torch.inference_mode()
    def check(self, name: str, ready: Callable[[Any], None] | None = None) -> None:
        """Compare logits with those of the model's own forward pass, with and without a picture: see `check_engine`.

        If the fast path differs by more than rounding, it is switched off with a warning. `ready` is called with each
        decoder after its own forward pass, to change it in a way that must not change its logits. Raises
        CheckpointError, which names the model as `name`, if the loop over transformers' layers differs as well.
        """
        if not check_engine(self, name, ready):
            self.lean = None

    def over(self, model: Any, decoder: Any) -> Engine:
        """An engine that loops over another model's layers as this one does; the vocabulary must be the same."""
        other = copy.copy(self)
        other.model, other.decoder, other.lean = model, decoder, None
        return other

    def loop_logits(self, prompts: Sequence[Prompt], tokens: Sequence[int]) -> Tensor:
        """The loop's logits after each prompt and after one more token: [2, prompts, vocabulary], on the CPU."""
        steps: list[Tensor] = []
        ids, mask = self._pad(prompts)
        context = self._context(prompts, ids, mask)
        self._one_by_one(self._embed(prompts, ids, mask), mask, STEPS, forced(tokens, steps), (), context)
        return torch.stack(steps)

    def _fast_path(self) -> Lean | None:
        try:
            view = view_of(self.model, self.decoder)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, AssertionError) as error:
            log.warning(
                "%s: the fast path cannot read these layers (%s: %s); answers come from transformers' layers instead,"
                " which takes longer",
                *(type(self.model).__name__, type(error).__name__, error),
            )
            return None
        if view is None:
            return None
        image_token = self.model.config.image_token_id if self.sees else None
        return Lean(replace(view, pending=self.pending), self.tokenizer, self._ends, image_token)

    @property
    def ends(self) -> frozenset[int]:
        """The ids of the end tokens."""
        return frozenset(self._ends.tolist())

    @property
    def device(self) -> str:
        """The device that the model runs on."""
        return str(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def prepare(self, items: Sequence[Item], generation: Generation, batch: int) -> Prepared:
        """Compute tokens, vision features and the batch plan for a set of items. `batch`: the most items per batch.

        Equal images are encoded once. Raises DataError at the first item that cannot be asked so.
        """
        plain = generation.num_beams == 1 and generation.repetition_penalty == 1.0
        if not plain and "inputs_embeds" not in signature(self.model.prepare_inputs_for_generation).parameters:
            raise DataError(
                f"{type(self.model).__name__}: transformers cannot search with beams or penalties from image features"
                " in this kind of model; set `num_beams: 1` and `repetition_penalty: 1.0`, or choose another preset"
            )
        refuse = partial(refuse_unfit, tokenizer=self.tokenizer, rows=self._rows, config=self.model.config)
        if self.sees:
            prompts = see(self.model, self.processor, items, generation, refuse)
        else:
            prompts = blind(self.tokenizer, items, generation, self.model.device, refuse)
        if not plain and any(prompt.axes is not None for prompt in prompts):
            raise DataError(
                f"{type(self.model).__name__}: pictures have positions of their own here, which transformers' beams and"
                " penalties would lose; set `num_beams: 1` and `repetition_penalty: 1.0`, or choose another preset"
            )
        warn_of_long(prompts, self.model.config)
        return prepared_of(prompts, generation, batch)

    @torch.inference_mode()
    def answer(self, prepared: Prepared, progress: Callable[[int], None] | None = None) -> list[str]:
        """Return one answer per item, in item order, stripped.

        `progress` is called with the number of items just answered. A batch that does not fit into memory is halved in
        the plan, recorded in `prepared.halved`, and tried again. Raises FloatingPointError if logits are not finite,
        and torch.OutOfMemoryError or MemoryError if not even a single row fits.
        """
        self.spent = None
        if self.lean is not None and self.lean.serves(prepared):
            try:
                answered = self.lean.answer(prepared, progress)
            except (AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
                # A mistake of ours, no candidate's fault.
                log.warning(
                    "the fast path failed (%s: %s); from now on transformers' layers answer, which takes longer and has"
                    " no 8-bit products",
                    *(type(error).__name__, error),
                )
                self.lean = None
            else:
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
        """Stream the answer to a set of exactly one prompt: yields (text so far, tokens so far) after each token.

        The last text equals the result of `answer`. Beams and penalties cannot be streamed: they yield the whole answer
        in one step. Closing the iterator stops the work. Raises the same errors as `answer`.
        """
        prompt, generation = prepared.prompts[0], prepared.generation
        assert len(prepared.prompts) == 1, "one prompt per stream"
        if generation.num_beams > 1 or generation.repetition_penalty != 1.0:
            whole = self.answer(prepared)[0]
            yield whole, len(self.tokenizer(whole, add_special_tokens=False)["input_ids"])
            return
        self.pending.finish()
        ids, mask = self._pad([prompt])
        context = self._context([prompt], ids, mask)
        positions = context["position_ids"]
        step_input: dict[str, Any] = {"inputs_embeds": self._embed([prompt], ids, mask), **context}
        cache = DynamicCache(config=self.decoder.config)
        made: list[int] = []
        choose = sampler(generation, [prompt.key])
        while len(made) < generation.max_new_tokens:
            best, chosen = choose(self._next_logits(step_input, cache), torch.zeros(1, dtype=torch.int64))
            refuse_nan(chosen, best)
            if bool(torch.isin(chosen, self._ends)):
                break
            made.append(int(chosen))
            text = self.tokenizer.decode(made, skip_special_tokens=True)
            kept = cut(text, generation.stop)
            # A multi-byte character may still be incomplete: then show the text before it.
            shown = kept if len(made) == generation.max_new_tokens else kept.rstrip("\ufffd")
            yield shown.strip(), len(made)
            if len(kept) < len(text):
                break
            positions = after(positions)
            step_input = {"input_ids": chosen.unsqueeze(1), "position_ids": positions}

    def _decode_or_none(self, prompts: Sequence[Prompt], generation: Generation) -> list[str] | None:
        """The answers, or None if they do not fit into memory; the attempt's memory is freed then."""
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
            most, stop = generation.max_new_tokens, generation.stop
            tokens = self._one_by_one(embeddings, mask, most, choose, stop, self._context(prompts, ids, mask))
        else:
            # Pass the ids too, because the penalty also applies to the prompt's tokens.
            whole = self.model.generate(
                input_ids=ids,
                inputs_embeds=embeddings,
                attention_mask=mask,
                do_sample=False,
                num_beams=generation.num_beams,
                repetition_penalty=generation.repetition_penalty,
                max_new_tokens=generation.max_new_tokens,
                logits_processor=LogitsProcessorList([refuse_nan]),
                **self._types(prompts, ids),
            )
            tokens = whole[:, ids.shape[1] :]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [cut(text, generation.stop).strip() for text in texts]

    def _pad(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask int64 [batch, length], padded on the left."""
        longest = max(len(prompt.ids) for prompt in prompts)
        pad = self.tokenizer.pad_token_id
        padding = pad if pad is not None and 0 <= pad < self._rows else 0  # masked, but it has to be a row
        ids = torch.full((len(prompts), longest), padding, dtype=torch.int64, device=self.model.device)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :] = prompt.ids
            mask[row, longest - len(prompt.ids) :] = 1
        return ids, mask

    def _embed(self, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [batch, length, hidden] from the live table, with image features at the image tokens."""
        embeddings: Tensor = self.decoder.embed_tokens(ids)
        features = [prompt.features for prompt in prompts if prompt.features is not None]
        if features:
            places = (ids == self.model.config.image_token_id) & (mask == 1)
            embeddings[places] = torch.cat(features).to(embeddings.dtype)
        return embeddings

    def _types(self, prompts: Sequence[Prompt], ids: Tensor) -> dict[str, Tensor]:
        """Token types, for models in which some tokens see later ones: int64 [batch, length].

        Padding, and prompts without a picture, have the type of an answer's tokens, which see earlier ones only.
        """
        if not self.sees or "token_type_ids" not in signature(self.model.forward).parameters:
            return {}
        types = torch.full_like(ids, family_of({"model_type": self.model.config.model_type}).answer_type)
        for row, prompt in enumerate(prompts):
            if prompt.types is not None:
                types[row, ids.shape[1] - len(prompt.ids) :] = prompt.types
        return {"token_type_ids": types}

    def _context(self, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> dict[str, Any]:
        """What the model's first pass needs besides embeddings and mask: see `first_context`."""
        image_token = self.model.config.image_token_id if self.sees else None
        return {**self._types(prompts, ids), **first_context(prompts, ids, mask, image_token)}

    def _next_logits(self, step_input: dict[str, Any], cache: Cache, **more: Tensor) -> Tensor:
        """The model's own logits after its last token: float32 [batch, vocabulary]."""
        if "deepstack_visual_embeds" not in step_input:
            made = self.model(**step_input, **more, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits: Tensor = made.logits[:, -1].float()
            return logits
        # The whole model would compute them from pixels; its own forward pass gives them to the decoder like this.
        made = self.decoder(**step_input, **more, past_key_values=cache, use_cache=True)
        logits = self.model.lm_head(made.last_hidden_state[:, -1]).float()
        return logits

    def _one_by_one(
        self,
        embeddings: Tensor,
        mask: Tensor,
        most: int,
        choose: Choose,
        stop: Sequence[str],
        context: dict[str, Any],
    ) -> Tensor:
        """Tokens int64 [batch, steps], greedy or sampled, padded with the first end token.

        A row that contains a stop string may end early: the text after it is cut off anyway. context: see `_context`.
        """
        rows = len(embeddings)
        made = torch.full((rows, most), int(self._ends[0]), dtype=torch.int64, device=embeddings.device)
        alive = torch.arange(rows, device=embeddings.device)  # which row of `made` each row of the cache is
        cache = DynamicCache(config=self.decoder.config)
        positions = context["position_ids"]
        step_input: dict[str, Any] = {"inputs_embeds": embeddings, **context}
        for step in range(most):
            logits = self._next_logits(step_input, cache, attention_mask=mask)
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
            positions = after(positions)
            if count <= WORTH_DROPPING * len(going):
                kept = going.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                alive, chosen, mask = alive[kept], chosen[kept], mask[kept]
                positions = positions.index_select(-2, kept)
            step_input = {"input_ids": chosen.unsqueeze(1), "position_ids": positions}
        return after_end(made, self._ends)
