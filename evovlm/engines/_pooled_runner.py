"""The runner with fused kernels: one pool of tokens, shared prefixes stored once, steps replayed as a CUDA graph.

Knows towers and chunks; no prompts and no sampling. The graph is captured once: it reads the live weights and tables
of addresses, so it works for every candidate and every state of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import triton
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from evovlm.engines import _fused_kernels as kernels
from evovlm.engines._chunk import Chunk, Part
from evovlm.engines._forward import Attend, Ops, deep_of, prefill, step
from evovlm.engines._fused_ops import FUSED
from evovlm.engines._grouping import Group
from evovlm.engines._runner import Size
from evovlm.engines._spans import Span, Spans
from evovlm.engines._tower_view import Tower

# Rows that read a shared prefix together.
MEMBERS = 16
SPLIT = 512  # tokens of a prefix that one kernel program reads
BLOCK = 64


@dataclass
class _Slot:
    """A row's text: where its shared prefix and its own tokens are in the pool, and how many."""

    shared: Span
    region: int  # index of its own piece of the pool
    own: int  # number of its own tokens
    shift: int = 0  # its next position less its number of tokens


class PooledRunner:
    """One pool of keys and one of values per layer, each [kv_heads, tokens, dim].

    `wanted`: the size requested, if memory allowed only the smaller `size`.
    """

    def __init__(self, tower: Tower, size: Size, wanted: Size | None = None, ops: Ops = FUSED) -> None:
        self._tower, self._size, self._wanted, self._ops = tower, size, wanted or size, ops
        self.slots = size.rows
        device, dtype = tower.embed.device, tower.embed.dtype
        # One extra token: rows that are not in use write there.
        shape = (len(tower.layers), tower.kv_heads, size.tokens + 1, tower.dim)
        self._keys, self._values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self._cos, self._sin = tower.rotary_table(size.longest + size.own)
        self._members = min(MEMBERS, triton.next_power_of_2(size.rows))
        self._splits = triton.cdiv(size.longest, SPLIT)
        self._precision = "ieee" if dtype == torch.float32 else "tf32"
        self._made = torch.zeros(size.rows, tower.heads, self._splits, tower.dim, device=device)
        self._mass = torch.zeros(size.rows, tower.heads, self._splits, device=device)
        # Per row: own start, own length, place, position, prefix length, 1 if in use. Then per entry (rows that read a
        # prefix together): start, length, members.
        self._table = torch.zeros(size.rows * (8 + self._members), dtype=torch.int32, device=device)
        self._by_row = self._table[: 6 * size.rows].view(6, size.rows)
        self._entries = self._table[6 * size.rows : 8 * size.rows].view(2, size.rows)
        self._entry_rows = self._table[8 * size.rows :].view(size.rows, self._members)
        self._tokens = torch.zeros(size.rows, dtype=torch.int64, device=device)
        self._rows: list[_Slot] = []
        self._stale = True
        self._logits: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self.begin()

    def begin(self) -> None:
        """Forget all rows."""
        self._rows = []
        own = self.slots * self._size.own
        self._spans = Spans(own, self._size.tokens - own)
        self._regions = list(range(self.slots))
        self._stale = True

    def serves(self, size: Size) -> bool:
        """Whether this runner can be reused for a set of that size."""
        mine = self._wanted
        return mine.rows == size.rows and all(has >= asked for has, asked in zip(mine, size, strict=True))

    def free(self) -> None:
        """Release the memory; the runner cannot be used afterwards."""
        self._graph = None
        self._keys = self._values = self._made = self._logits = torch.empty(0)

    def room(self, groups: Sequence[Group]) -> bool:
        """Whether slots and pool have room for these groups in addition to the rows in use."""
        asked = sum(len(group.questions) for group in groups)
        if len(self._rows) + asked > self.slots:
            return False
        return self._spans.holds([len(group.ids) for group in groups])

    def read_bytes(self) -> int:
        """Bytes of keys and values that the next step reads; a shared prefix counts once."""
        shared = {row.shared.start: row.shared.length for row in self._rows if row.shared.length}
        return (sum(shared.values()) + sum(row.own for row in self._rows)) * self._tower.token_bytes

    def fill(self, hidden: Tensor, chunk: Chunk) -> None:
        """Prefill a chunk's embeddings [tokens, hidden] into its slots."""
        places: list[int] = []
        shared: list[Span] = []
        for part in chunk.parts:
            span = self._spans.take(part.length, len(part.slots))
            shared.append(span)
            places += range(span.start, span.start + part.length)
            self._rows += [_Slot(span, self._regions.pop(), 0, chunk.shifts.get(slot, 0)) for slot in part.slots]
        table = []
        for rest in chunk.rests:
            row = self._rows[rest.slot]
            row.own = rest.length
            start = row.region * self._size.own
            places += range(start, start + rest.length)
            table.append([rest.start, rest.length, start, shared[rest.part].start, shared[rest.part].length])
        device = hidden.device
        rests = torch.tensor(table, dtype=torch.int32, device=device) if table else None
        longest = max((rest.length for rest in chunk.rests), default=0)
        where = torch.tensor(places, dtype=torch.int32, device=device)
        prefill(self._tower, self._ops, hidden, self._reading(chunk, where, rests, longest), deep_of(chunk))
        self._stale = True

    def step(self, tokens: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] after the next token of the first rows, `tokens` int64 [rows]."""
        if self._graph is None and self._tokens.is_cuda:
            self._capture()
        if self._stale:
            self._write_tables()
        self._tokens[: len(tokens)].copy_(tokens)
        if self._graph is not None:
            self._graph.replay()
        else:  # Triton's interpreter
            self._logits = self._one_step()
        for row in self._rows:
            row.own += 1
        assert self._logits is not None
        return self._logits[: len(tokens)]

    def close_gaps(self, moves: Sequence[tuple[int, int]], rows: int) -> None:
        """Move rows, each given as (from, to); afterwards the first `rows` slots are in use. No keys are moved."""
        left = dict(enumerate(self._rows))
        for source, goal in moves:
            self._rows[goal] = left[source]
        kept = {slot.region for slot in self._rows[:rows]}
        for slot in left.values():
            if slot.region not in kept:
                self._regions.append(slot.region)
                self._spans.give_back(slot.shared)
        self._rows = self._rows[:rows]
        self._stale = True

    def _write_tables(self) -> None:
        size, rows = self._size, self._rows
        spare = self.slots - len(rows)
        starts = [row.region * size.own for row in rows]
        by_row = [
            starts + [size.tokens] * spare,
            [row.own for row in rows] + [0] * spare,
            [start + row.own for start, row in zip(starts, rows, strict=True)] + [size.tokens] * spare,
            [row.shared.length + row.own + row.shift for row in rows] + [0] * spare,
            [row.shared.length for row in rows] + [0] * spare,
            [1] * len(rows) + [0] * spare,
        ]
        entries: list[tuple[int, int, list[int]]] = []
        by_span: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            if row.shared.length:
                by_span.setdefault(row.shared.start, []).append(number)
        for members in by_span.values():
            span = rows[members[0]].shared
            for first in range(0, len(members), self._members):
                entries.append((span.start, span.length, members[first : first + self._members]))
        blank: list[tuple[int, int, list[int]]] = [(0, 0, [])] * (self.slots - len(entries))
        entries += blank
        flat = [number for line in by_row for number in line]
        flat += [entry[0] for entry in entries] + [entry[1] for entry in entries]
        flat += [number for entry in entries for number in [*entry[2], *[-1] * (self._members - len(entry[2]))]]
        self._table.copy_(torch.tensor(flat, dtype=torch.int32))
        self._stale = False

    def _capture(self) -> None:
        """Capture one step as a CUDA graph. All rows are marked unused, so that no stored keys are overwritten."""
        rows, self._rows = self._rows, []
        self._write_tables()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._one_step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # On its own stream: torch's default capture stream belongs to the GPU of the process's first capture.
        with torch.cuda.graph(self._graph, stream=side):
            self._logits = self._one_step()
        self._rows, self._stale = rows, True

    def _one_step(self) -> Tensor:
        tower = self._tower
        own_starts, own_lengths, places, positions, before, used = self._by_row
        shared_starts, shared_lengths = self._entries
        grouped = tower.heads // tower.kv_heads
        sizes = {"HEADS": tower.heads, "KV": tower.kv_heads, "DIM": tower.dim}
        more = {"SPLIT": SPLIT, "BLOCK": BLOCK, "PRECISION": self._precision}
        capacity, scale = self._keys.shape[2], tower.dim**-0.5
        shared_rows = max(16, triton.next_power_of_2(self._members * grouped))
        own_rows = max(16, triton.next_power_of_2(grouped))

        def attend(layer: int, qkv: Tensor) -> Tensor:
            keys, values = self._keys[layer], self._values[layer]
            self._turn_and_keep(layer, qkv, self._cos, self._sin, positions, places)
            if self._splits:
                kernels.shared_attention_kernel[(self.slots, tower.kv_heads, self._splits)](
                    qkv, keys, values, shared_starts, shared_lengths, self._entry_rows, self._made, self._mass,
                    capacity, scale, self._splits, **sizes, MEMBERS=self._members, ROWS=shared_rows, **more,
                    num_warps=4, num_stages=3,
                )  # fmt: skip
            out = qkv.new_empty(len(qkv), tower.heads * tower.dim)
            kernels.own_attention_kernel[(self.slots, tower.kv_heads)](
                qkv, keys, values, own_starts, own_lengths, before, self._made, self._mass, out,
                capacity, scale, self._splits, **sizes, ROWS=own_rows, **more, num_warps=4,
            )  # fmt: skip
            return out

        logits = step(tower, self._ops, self._tokens, attend)
        for counter in (own_lengths, places, positions):
            counter.add_(used)
        return logits

    def _turn_and_keep(
        self, layer: int, qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, places: Tensor
    ) -> None:
        tower, own = self._tower, self._tower.layers[layer]
        norms = (own.query_norm, own.key_norm)
        kernels.turn_and_keep_kernel[(len(qkv),)](
            qkv, cos, sin, positions, places, self._keys[layer], self._values[layer],
            self._keys.shape[2], *(qkv if norm is None else norm for norm in norms), tower.eps,
            tower.heads, tower.kv_heads, tower.dim,
            triton.next_power_of_2(tower.heads + tower.kv_heads), triton.next_power_of_2(tower.kv_heads),
            own.query_norm is not None, num_warps=4,
        )  # fmt: skip

    def _reading(self, chunk: Chunk, places: Tensor, rests: Tensor | None, longest: int) -> Attend:
        tower = self._tower
        positions, cos, sin = chunk.positions.to(torch.int32), self._cos, self._sin
        if chunk.axes is not None:  # a table of the chunk's own tokens in place of one of positions
            positions = torch.arange(len(positions), dtype=torch.int32, device=positions.device)
            cos, sin = tower.rotations(chunk.axes)
        runs = _runs(chunk.parts)
        capacity, scale, rows = self._keys.shape[2], tower.dim**-0.5, 64

        def attend(layer: int, qkv: Tensor) -> Tensor:
            self._turn_and_keep(layer, qkv, cos, sin, positions, places)
            if layer + 1 == len(tower.layers):
                return qkv
            out = qkv.new_empty(len(qkv), tower.heads * tower.dim)
            heads = qkv.view(len(qkv), -1, tower.dim)
            for start, count, length in runs:
                _causal(heads, out, start, count, length, tower)
            if rests is not None:
                kernels.rest_attention_kernel[(len(rests), triton.cdiv(longest, rows), tower.heads)](
                    qkv, self._keys[layer], self._values[layer], rests, out, capacity, scale,
                    tower.heads, tower.kv_heads, tower.dim, rows, BLOCK, self._precision, num_warps=4,
                )  # fmt: skip
            return out

        return attend


def _runs(parts: Sequence[Part]) -> list[tuple[int, int, int]]:
    """Adjacent prefixes of equal length, as (first token, number of prefixes, length)."""
    runs = []
    for length, same in groupby(parts, key=lambda part: part.length):
        together = list(same)
        if length:
            runs.append((together[0].start, len(together), length))
    return runs


def _causal(heads: Tensor, out: Tensor, start: int, count: int, length: int, tower: Tower) -> None:
    """Causal attention of `count` prefixes of equal length, [count * length, heads + 2 kv_heads, dim], into `out`."""
    part = heads[start : start + count * length].view(count, length, -1, tower.dim).transpose(1, 2)
    queries, keys, values = torch.split(part, [tower.heads, tower.kv_heads, tower.kv_heads], dim=1)
    made = scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    goal = out[start : start + count * length].view(count, length, tower.heads, tower.dim)
    goal.copy_(made.transpose(1, 2))
