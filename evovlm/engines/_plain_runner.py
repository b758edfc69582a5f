"""The runner in plain torch: each slot has its own row of keys and values, into which shared prefixes are copied.

Knows towers and chunks; no prompts and no sampling. For CPUs, and for accelerators without fused kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from evovlm.engines._chunk import Chunk
from evovlm.engines._forward import PLAIN, Attend, Ops, deep_of, plain_norm, prefill, step
from evovlm.engines._grouping import Group
from evovlm.engines._tower_view import Tower


class _Run(NamedTuple):
    """Adjacent rows of equal length in a chunk."""

    start: int  # first token in the chunk
    rows: int
    length: int  # tokens per row
    before: int  # tokens already in each row's slot
    slots: Tensor  # int64, where keys and values go
    of: Tensor  # int64, the row of the run that each slot gets


class PlainRunner:
    """Rows of `capacity` tokens each; keys and values per layer are [slots, kv_heads, capacity, dim]."""

    def __init__(self, tower: Tower, slots: int, capacity: int, ops: Ops = PLAIN) -> None:
        self._tower, self._ops, self._capacity = tower, ops, capacity
        self.slots = slots
        device, dtype = tower.embed.device, tower.embed.dtype
        shape = (slots, tower.kv_heads, capacity, tower.dim)
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in tower.layers]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for _ in tower.layers]
        self._lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self._shifts = torch.zeros(slots, dtype=torch.int64, device=device)  # a row's next position less its length
        self._cos, self._sin = tower.rotary_table(capacity)
        self._rows = torch.arange(slots, device=device)
        self._columns = torch.arange(capacity, device=device)
        self._used = 0

    def begin(self) -> None:
        """Forget all rows."""
        self._used = 0

    def serves(self, slots: int, capacity: int) -> bool:
        """Whether this runner can be reused for `slots` rows of `capacity` tokens."""
        return self.slots == slots and self._capacity >= capacity

    def room(self, groups: Sequence[Group]) -> bool:
        """Whether enough slots are free; their memory is already allocated."""
        return self._used + sum(len(group.questions) for group in groups) <= self.slots

    def read_bytes(self) -> int:
        """Bytes of keys and values that the next step reads."""
        return int(self._lengths[: self._used].sum()) * self._tower.token_bytes

    def fill(self, hidden: Tensor, chunk: Chunk) -> None:
        """Prefill a chunk's embeddings [tokens, hidden] into its slots."""
        prefill(self._tower, self._ops, hidden, self._reading(chunk), deep_of(chunk))
        for part in chunk.parts:
            self._lengths[list(part.slots)] = part.length
            self._shifts[list(part.slots)] = 0
            self._used += len(part.slots)
        for slot, shift in chunk.shifts.items():
            self._shifts[slot] = shift
        for rest in chunk.rests:
            self._lengths[rest.slot] += rest.length

    def step(self, tokens: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] after the next token of the first rows, `tokens` int64 [rows]."""
        rows = len(tokens)
        lengths = self._lengths[:rows]
        longest = int(lengths.max()) + 1
        positions = lengths + self._shifts[:rows]
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        seen = None if bool((lengths == lengths[0]).all()) else self._columns[:longest] <= lengths[:, None]
        mask = None if seen is None else seen[:, None, None]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            queries, keys, values = self._split(layer, qkv, cos, sin)
            self._keys[layer][self._rows[:rows], :, lengths] = keys
            self._values[layer][self._rows[:rows], :, lengths] = values
            # The query heads of a key head take the place of the token dimension, so no keys need to be repeated.
            grouped = queries.view(rows, self._tower.kv_heads, -1, self._tower.dim)
            past = self._keys[layer][:rows, :, :longest], self._values[layer][:rows, :, :longest]
            return scaled_dot_product_attention(grouped, *past, attn_mask=mask).reshape(rows, -1)

        logits = step(self._tower, self._ops, tokens, attend)
        self._lengths[:rows] += 1
        return logits

    def close_gaps(self, moves: Sequence[tuple[int, int]], rows: int) -> None:
        """Move rows, each given as (from, to); afterwards the first `rows` slots are in use."""
        self._used = rows
        if not moves:
            return
        source, goal = ([move[end] for move in moves] for end in (0, 1))
        self._lengths[goal] = self._lengths[source]
        self._shifts[goal] = self._shifts[source]
        longest = int(self._lengths[goal].max())
        for kept in (*self._keys, *self._values):
            kept[goal, :, :longest] = kept[source, :, :longest]

    def _split(self, layer: int, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normed and rotated queries and keys, and values: each [tokens, heads or kv_heads, dim]."""
        tower = self._tower
        heads = qkv.view(len(qkv), -1, tower.dim)
        turned = heads[:, : tower.heads + tower.kv_heads]
        own = tower.layers[layer]
        if own.query_norm is not None and own.key_norm is not None:
            pairs = ((turned[:, : tower.heads], own.query_norm), (turned[:, tower.heads :], own.key_norm))
            turned = torch.cat([plain_norm(part, weight, tower.eps) for part, weight in pairs], dim=1)
        turned = _turn(turned, cos, sin)
        return turned[:, : tower.heads], turned[:, tower.heads :], heads[:, tower.heads + tower.kv_heads :]

    def _reading(self, chunk: Chunk) -> Attend:
        tower = self._tower
        if chunk.axes is None:
            cos, sin = self._cos[chunk.positions], self._sin[chunk.positions]
        else:
            cos, sin = tower.rotations(chunk.axes)
        cos, sin = cos[:, None], sin[:, None]
        beginnings, rests = self._runs(chunk)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            queries, keys, values = self._split(layer, qkv, cos, sin)
            kept = self._keys[layer], self._values[layer]
            for run in (*beginnings, *rests):
                for cache, new in zip(kept, (keys, values), strict=True):
                    cache[run.slots, :, run.before : run.before + run.length] = _rows(new, run)[run.of]
            if layer + 1 == len(tower.layers):
                return qkv
            out = torch.empty_like(queries)
            for run in beginnings:
                own = _repeated(_rows(keys, run), tower), _repeated(_rows(values, run), tower)
                made = scaled_dot_product_attention(_rows(queries, run), *own, is_causal=True)
                _rows(out, run).copy_(made)
            for run in rests:
                whole = run.before + run.length
                past_keys, past_values = (_repeated(cache[run.slots, :, :whole], tower) for cache in kept)
                mask = self._columns[: run.before + run.length] <= self._columns[run.before :][: run.length, None]
                made = scaled_dot_product_attention(_rows(queries, run), past_keys, past_values, attn_mask=mask)
                _rows(out, run).copy_(made)
            return out.flatten(1)

        return attend

    def _runs(self, chunk: Chunk) -> tuple[list[_Run], list[_Run]]:
        device = self._rows.device

        def indices(numbers: Sequence[int]) -> Tensor:
            return torch.tensor(numbers, dtype=torch.int64, device=device)

        beginnings = []
        for length, run in groupby(chunk.parts, key=lambda part: part.length):
            parts = list(run)
            slots = indices([slot for part in parts for slot in part.slots])
            of = indices([number for number, part in enumerate(parts) for _ in part.slots])
            if length:
                beginnings.append(_Run(parts[0].start, len(parts), length, 0, slots, of))
        rests = []
        for (before, length), same in groupby(
            chunk.rests, key=lambda rest: (chunk.parts[rest.part].length, rest.length)
        ):
            rows = list(same)
            slots, of = indices([rest.slot for rest in rows]), indices(range(len(rows)))
            rests.append(_Run(rows[0].start, len(rows), length, before, slots, of))
        return beginnings, rests


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions; the two halves of a head are rotated against each other, as in the Llama family."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-second, first), dim=-1) * sin


def _rows(packed: Tensor, run: _Run) -> Tensor:
    """The run's tokens of [tokens, heads, dim] as a view [rows, heads, length, dim]."""
    part = packed[run.start : run.start + run.rows * run.length]
    return part.view(run.rows, run.length, *part.shape[1:]).transpose(1, 2)


def _repeated(past: Tensor, tower: Tower) -> Tensor:
    """Key or value heads [rows, kv_heads, length, dim], repeated for each of their query heads."""
    return past.repeat_interleave(tower.heads // tower.kv_heads, dim=1)
