"""The lean path: answers from a tower's weights with a runner and the scheduler, sized to the free memory.

Knows prepared prompts and towers; no transformers, no recipes and no scores. The runner is reused for all candidates,
with its cache and captured graph, because the weights never move.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from evovlm.engines._eight_bit import copies_bytes, follow_weights, in_eight_bits, too_large, why_not
from evovlm.engines._grouping import group_prompts
from evovlm.engines._memory import chunk_tokens, free_bytes, new_runner
from evovlm.engines._probes import STEPS, forced
from evovlm.engines._runner import Runner
from evovlm.engines._sampling import sampler
from evovlm.engines._tower_view import Tower
from evovlm.engines.prompts import Prepared, Prompt, cut
from evovlm.engines.schedule import Rules, Schedule, Spent
from evovlm.system.device import current_gpu
from evovlm.system.faults import is_out_of_memory


class Lean:
    """Answers prompts on a tower. `spent`: seconds and work by phase of the last call of `answer`."""

    def __init__(self, tower: Tower, tokenizer: Any, ends: Tensor, image_token: int | None) -> None:
        self.tower = self._whole = tower
        self._tokenizer = tokenizer
        self._ends = frozenset(ends.tolist())
        self._image_token = image_token
        self._runner: Runner | None = None
        self.spent = Spent()
        self._eight_bit = False
        self._fused = True  # whether fused kernels may be used

    def _use_eight_bit(self, on: bool) -> None:
        """Switch 8-bit products on or off, which takes another runner."""
        if on == self._eight_bit:
            return
        self.tower = self._whole  # first, so that the copies' memory is freed with the runner's
        self.drop_runner()
        self._eight_bit = False
        if on:
            with current_gpu(self.tower.embed.device):
                self.tower = in_eight_bits(self._whole)
            self._eight_bit = True

    def why_not_eight_bit(self) -> str | None:
        """Why these weights cannot be multiplied in 8-bit floats on their device; None if they can.

        To be asked before there is a runner, whose cache takes what memory is free.
        """
        device = self._whole.embed.device
        if device.type != "cuda":
            return None
        return why_not(self._whole) or too_large(copies_bytes(self._whole), free_bytes(device))

    def serves(self, prepared: Prepared) -> bool:
        """Whether this path supports the prompts and settings: one beam, no penalty, no longer than the window."""
        generation = prepared.generation
        if generation.num_beams > 1 or generation.repetition_penalty != 1.0:
            return False
        return all(self.takes(prompt, generation.max_new_tokens) for prompt in prepared.prompts)

    def takes(self, prompt: Prompt, most: int) -> bool:
        """Whether this path can read a prompt and `most` more tokens: its window is no shorter."""
        if self.tower.window is not None and len(prompt.ids) + most > self.tower.window:
            return False
        # The last token is read by its id, so it cannot be an image token.
        return prompt.features is None or prompt.last != self._image_token

    def answer(self, prepared: Prepared, progress: Callable[[int], None] | None = None) -> list[str]:
        """Return one answer per prompt, in item order, stripped. `progress` is called with 1 for each.

        If memory runs out, half as many rows are tried at a time, recorded in `prepared.halved`. Raises
        FloatingPointError if logits are not finite, torch.OutOfMemoryError or MemoryError if even one row does not fit.
        """
        answers: dict[int, str] = {}
        self._use_eight_bit(prepared.generation.eight_bit)
        began = time.perf_counter()
        if self._eight_bit:  # weights are rounded again for each candidate
            self.tower.pending.finish()  # all weights are rounded before the first is used
            with current_gpu(self.tower.embed.device):
                follow_weights(self.tower)
        self.spent = Spent(prefill=time.perf_counter() - began)

        def done(prompt: int, tokens: list[int]) -> None:
            text = self._tokenizer.decode(tokens, skip_special_tokens=True)
            answers[prompt] = cut(text, prepared.generation.stop).strip()
            if progress is not None:
                progress(1)

        while len(answers) < len(prepared.prompts):
            pending = [index for batch in prepared.batches for index in batch if index not in answers]
            rows = max(len(batch) for batch in prepared.batches)
            with current_gpu(self.tower.embed.device):
                fits = self._fits(prepared, pending, rows, done)
            if not fits:
                prepared.halve(rows)
        return [answers[index] for index in range(len(prepared.prompts))]

    def _fits(
        self, prepared: Prepared, pending: Sequence[int], rows: int, done: Callable[[int, list[int]], None]
    ) -> bool:
        """Answer the pending prompts; False if memory ran out, with the attempt's memory freed."""
        try:
            self._attempt(prepared, pending, rows, done)
        except (MemoryError, RuntimeError) as error:
            # Fewer rows do not help if the merge failed.
            if rows == 1 or self.tower.pending.broken or not is_out_of_memory(error):
                raise
        else:
            return True
        self.drop_runner()
        return False

    def logits(self, prompts: Sequence[Prompt], tokens: Sequence[int]) -> Tensor:
        """Return the logits after each prompt and after one more token: [2, prompts, vocabulary], on the CPU.

        `tokens`: the token that each prompt reads next, whatever the model would choose.
        """
        steps: list[Tensor] = []
        with current_gpu(self.tower.embed.device):
            groups = group_prompts(prompts, range(len(prompts)), self._image_token, len(prompts))
            runner = new_runner(self.tower, groups, len(prompts), STEPS, None, fused=self._fused)
            schedule = Schedule(self.tower, runner, chunk_tokens(self.tower))
            schedule.run(groups, Rules(STEPS, frozenset()), forced(tokens, steps), lambda prompt, made: None)
        return torch.stack(steps)

    def on(self, tower: Tower) -> Lean:
        """The same path in plain torch on another tower with the same vocabulary.

        Not with the fused kernels: compiling them for one comparison in another dtype takes half a minute on a machine
        that has not done it yet.
        """
        other = copy.copy(self)
        other.tower = other._whole = tower
        other._runner, other._fused = None, False
        return other

    def drop_runner(self) -> None:
        """Free the runner and its cache; the next call of `answer` makes a new one."""
        self._runner = None
        if self.tower.embed.device.type == "cuda":
            torch.cuda.empty_cache()

    def _attempt(
        self, prepared: Prepared, pending: Sequence[int], rows: int, done: Callable[[int, list[int]], None]
    ) -> None:
        generation = prepared.generation
        plan = (tuple(pending), rows)
        if prepared.plan is None or prepared.plan[0] != plan:
            prepared.plan = (plan, group_prompts(prepared.prompts, pending, self._image_token, rows))
        groups = prepared.plan[1]
        self._runner = runner = new_runner(self.tower, groups, rows, generation.max_new_tokens, self._runner)
        schedule = Schedule(self.tower, runner, chunk_tokens(self.tower))
        stop = generation.stop
        stopped = (lambda made: self._says(made, stop)) if stop else None
        rules = Rules(generation.max_new_tokens, self._ends, stopped)
        try:
            schedule.run(groups, rules, sampler(generation, [prompt.key for prompt in prepared.prompts]), done)
        finally:
            self.spent = self.spent + schedule.spent

    def _says(self, made: list[int], stop: Sequence[str]) -> bool:
        text: str = self._tokenizer.decode(made, skip_special_tokens=True)
        return cut(text, stop) != text
