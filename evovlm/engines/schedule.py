"""The scheduler: decides when prompts are read and which rows continue (continuous batching).

Knows groups, runners and how tokens are chosen; no models and no texts. Finished rows are removed at once, and waiting
prompts take their slots before the last rows are done.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from evovlm.engines._chunk import Chunk, lay_out
from evovlm.engines._grouping import Group
from evovlm.engines._runner import Runner
from evovlm.engines._sampling import Choose
from evovlm.engines._tower_view import Tower
from evovlm.system.errors import NotFinite

# Waiting prompts are read once this share of the slots is free: prefilling too few rows at a time is inefficient.
REFILL = 0.25
# Steps of a row between checks for stop strings: detokenizing at each step would cost more than it saves.
STOP_EVERY = 8


@dataclass
class Spent:
    """Seconds by phase, and the unavoidable work: floating-point operations of prefill and bytes read by decode."""

    prefill: float = 0.0
    decode: float = 0.0
    prefill_flops: float = 0.0
    decode_bytes: float = 0.0
    steps: int = 0

    def floors(self, matrix: float, copy: float) -> dict[str, float]:
        """Return lower bounds of the seconds for prefill and decode.

        `matrix`: the machine's floating-point operations per second. `copy`: its bytes per second.
        """
        return {"prefill": self.prefill_flops / matrix, "decode": self.decode_bytes / copy}

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass
class _Row:
    prompt: int
    next: int  # the token that the next step reads
    made: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """When a row ends: at an end token in `ends`, after `most` tokens, or if `stopped(tokens so far)` is true."""

    most: int
    ends: frozenset[int]
    stopped: Callable[[list[int]], bool] | None = None


class Schedule:
    """Generates one candidate's answers. `spent`: seconds and work by phase. `chunk_tokens`: most tokens per chunk."""

    def __init__(self, tower: Tower, runner: Runner, chunk_tokens: int) -> None:
        self._tower, self._runner, self._chunk_tokens = tower, runner, chunk_tokens
        self.spent = Spent()

    def run(
        self, groups: Sequence[Group], rules: Rules, choose: Choose, done: Callable[[int, list[int]], None]
    ) -> None:
        """Answer all questions of the groups.

        `done(prompt index, tokens)` is called for each finished prompt; tokens include the end token. Raises
        NotFinite if logits are not finite.
        """
        waiting = deque(groups)
        rows: list[_Row] = []
        self._runner.begin()
        while waiting or rows:
            free = self._runner.slots - len(rows)
            if waiting and (not rows or free >= max(1, REFILL * self._runner.slots)):
                rows += self._read(waiting, len(rows))
            self._step(rows, choose)
            rows = self._close(rows, rules, done)

    def _read(self, waiting: deque[Group], used: int) -> list[_Row]:
        """Prefill as many prompts as fit, a chunk at a time; the new rows come after those in use."""
        began = time.perf_counter()
        rows: list[_Row] = []
        while waiting:
            taken: list[Group] = []
            tokens = 0
            while waiting and self._runner.room([*taken, waiting[0]]):
                tokens += len(waiting[0].ids) + sum(len(question.ids) - 1 for question in waiting[0].questions)
                if taken and tokens > self._chunk_tokens:
                    break
                taken.append(waiting.popleft())
            if not taken:
                break
            slots = []
            for group in taken:
                slots.append(range(used + len(rows), used + len(rows) + len(group.questions)))
                rows += [_Row(question.index, question.last) for question in group.questions]
            chunk = lay_out(taken, slots)
            self._runner.fill(self._embed(chunk), chunk)
            self.spent.prefill_flops += _flops(self._tower, chunk)
        assert rows or used, "not even one group fits"
        self._tower.pending.finish()
        self._wait()
        self.spent.prefill += time.perf_counter() - began
        return rows

    def _embed(self, chunk: Chunk) -> Tensor:
        """Embeddings [tokens, hidden] from the live table, with image features at the image tokens."""
        self._tower.pending.need(0)
        hidden = torch.nn.functional.embedding(chunk.ids, self._tower.embed)
        if chunk.places is not None and chunk.features is not None:
            hidden.index_copy_(0, chunk.places, chunk.features.to(hidden.dtype))
        return hidden

    def _step(self, rows: list[_Row], choose: Choose) -> None:
        began = time.perf_counter()
        device = self._tower.embed.device
        self.spent.decode_bytes += self._tower.weight_bytes + self._runner.read_bytes()
        logits = self._runner.step(torch.tensor([row.next for row in rows], device=device)).float()
        best, chosen = choose(logits, torch.tensor([row.prompt for row in rows]))
        values, tokens = torch.stack([best.double(), chosen.double()]).tolist()
        if not all(math.isfinite(value) for value in values):
            raise NotFinite("the logits are not finite")
        for row, token in zip(rows, tokens, strict=True):
            row.next = int(token)
            row.made.append(int(token))
        self.spent.steps += 1
        self.spent.decode += time.perf_counter() - began

    def _close(self, rows: list[_Row], rules: Rules, done: Callable[[int, list[int]], None]) -> list[_Row]:
        """Remove the rows that have ended; rows from the back fill the gaps."""
        going = [not _ended(row, rules) for row in rows]
        count = sum(going)
        if count == len(rows):
            return rows
        for row, goes in zip(rows, going, strict=True):
            if not goes:
                done(row.prompt, row.made)
        gaps = [slot for slot in range(count) if not going[slot]]
        movers = [slot for slot in range(count, len(rows)) if going[slot]]
        for source, goal in zip(movers, gaps, strict=True):
            rows[goal] = rows[source]
        self._runner.close_gaps(list(zip(movers, gaps, strict=True)), count)
        return rows[:count]

    def _wait(self) -> None:
        if self._tower.embed.device.type == "cuda":
            torch.cuda.synchronize()


def _ended(row: _Row, rules: Rules) -> bool:
    if row.made[-1] in rules.ends or len(row.made) >= rules.most:
        return True
    return rules.stopped is not None and len(row.made) % STOP_EVERY == 0 and rules.stopped(row.made)


def _flops(tower: Tower, chunk: Chunk) -> float:
    """Lower bound of the operations to prefill a chunk: of the last layer only keys and values are needed."""
    kept = 2 * tower.kv_heads * tower.dim * tower.embed.shape[1]
    linear = 2.0 * len(chunk.ids) * ((len(tower.layers) - 1) * tower.linear_weights + kept)
    pairs = 4.0 * chunk.flops_attention * tower.heads * tower.dim * (len(tower.layers) - 1)
    return linear + pairs
