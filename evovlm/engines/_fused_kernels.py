"""Triton kernels of the lean path: norms, rotary positions, activation, and attention over a pool of tokens.

Knows tensors and addresses; no models. Sums and softmaxes are float32; results are rounded at the same points as in
transformers. A pool is [kv_heads, capacity, dim]: a text's keys are runs in it, and texts may share a run.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_norm_kernel(stream, more, weight, out, width, eps, HAS_MORE: tl.constexpr, BLOCK: tl.constexpr):
    """One row: stream += more, out = norm(stream) * weight."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    live = columns < width
    value = tl.load(stream + row * width + columns, mask=live, other=0.0).to(tl.float32)
    dtype = stream.dtype.element_ty
    if HAS_MORE:
        value += tl.load(more + row * width + columns, mask=live, other=0.0).to(tl.float32)
        value = value.to(dtype).to(tl.float32)
        tl.store(stream + row * width + columns, value.to(dtype), mask=live)
    scale = 1.0 / tl.sqrt(tl.sum(value * value) / width + eps)
    normed = (value * scale).to(dtype).to(tl.float32)
    gain = tl.load(weight + columns, mask=live, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, (normed * gain).to(dtype), mask=live)


@triton.jit
def gated_kernel(gate_up, out, inner, BLOCK: tl.constexpr):
    """silu(gate) * up for one block of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = columns < inner
    dtype = out.dtype.element_ty
    gate = tl.load(gate_up + row * 2 * inner + columns, mask=live, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * inner + inner + columns, mask=live, other=0.0).to(tl.float32)
    turned = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)
    tl.store(out + row * inner + columns, (turned * up).to(dtype), mask=live)


@triton.jit
def round_rows_kernel(rows, stored, scale, width, BLOCK: tl.constexpr):
    """Round one row to e4m3 and store its scale; 448 is the largest e4m3 value."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    live = columns < width
    value = tl.load(rows + row * width + columns, mask=live, other=0.0).to(tl.float32)
    size = tl.maximum(tl.max(tl.abs(value)), 1e-12) / 448.0
    tl.store(stored + row * width + columns, (value / size).to(stored.dtype.element_ty), mask=live)
    tl.store(scale + row, size)


@triton.jit
def turn_and_keep_kernel(
    qkv, cos, sin, positions, places, keys, values, capacity, query_norm, key_norm, eps,
    HEADS: tl.constexpr, KV: tl.constexpr, DIM: tl.constexpr, TURNED: tl.constexpr, KV_BLOCK: tl.constexpr,
    NORMED: tl.constexpr,
):  # fmt: skip
    """One token: rotate queries and keys in place, and store keys and values at the token's place in the pool.

    NORMED: first norm each query and key head, with the weights `query_norm` and `key_norm` [DIM].
    """
    token = tl.program_id(0).to(tl.int64)
    row = qkv + token * (HEADS + 2 * KV) * DIM
    position = tl.load(positions + token).to(tl.int64)
    place = tl.load(places + token).to(tl.int64)
    half = tl.arange(0, DIM // 2)
    dtype = qkv.dtype.element_ty
    c = tl.load(cos + position * DIM + half).to(tl.float32)[None, :]
    s = tl.load(sin + position * DIM + half).to(tl.float32)[None, :]
    heads = tl.arange(0, TURNED)[:, None]
    live = heads < HEADS + KV
    at = row + heads * DIM + half[None, :]
    a = tl.load(at, mask=live, other=0.0).to(tl.float32)
    b = tl.load(at + DIM // 2, mask=live, other=0.0).to(tl.float32)
    if NORMED:
        mean = (tl.sum(a * a, 1) + tl.sum(b * b, 1)) / DIM
        shrink = tl.rsqrt(mean + eps)[:, None]
        asked = heads < HEADS
        one = tl.where(asked, tl.load(query_norm + half)[None, :], tl.load(key_norm + half)[None, :]).to(tl.float32)
        more = DIM // 2 + half
        two = tl.where(asked, tl.load(query_norm + more)[None, :], tl.load(key_norm + more)[None, :]).to(tl.float32)
        a = ((a * shrink).to(dtype).to(tl.float32) * one).to(dtype).to(tl.float32)
        b = ((b * shrink).to(dtype).to(tl.float32) * two).to(dtype).to(tl.float32)
    # Each product is rounded, as in transformers' rotary code.
    ac, bs = (a * c).to(dtype).to(tl.float32), (b * s).to(dtype).to(tl.float32)
    bc, as_ = (b * c).to(dtype).to(tl.float32), (a * s).to(dtype).to(tl.float32)
    first, second = (ac - bs).to(dtype), (bc + as_).to(dtype)
    tl.store(at, first, mask=live)
    tl.store(at + DIM // 2, second, mask=live)
    kept = live & (heads >= HEADS)
    goal = keys + ((heads - HEADS) * capacity.to(tl.int64) + place) * DIM + half[None, :]
    tl.store(goal, first, mask=kept)
    tl.store(goal + DIM // 2, second, mask=kept)
    kv = tl.arange(0, KV_BLOCK)[:, None]
    dims = tl.arange(0, DIM)[None, :]
    value = tl.load(row + (HEADS + KV + kv) * DIM + dims, mask=kv < KV, other=0.0)
    tl.store(values + (kv * capacity.to(tl.int64) + place) * DIM + dims, value, mask=kv < KV)


@triton.jit
def _look(queries, keys, values, top, total, made, live, scale, PRECISION: tl.constexpr):
    """Add one block of keys to a running softmax. live: mask [rows, keys]."""
    score = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
    score = tl.where(live, score, float("-inf"))
    higher = tl.maximum(top, tl.max(score, 1))
    fade = tl.exp(top - higher)
    weight = tl.exp(score - higher[:, None])
    total = total * fade + tl.sum(weight, 1)
    made = made * fade[:, None] + tl.dot(weight.to(values.dtype), values, input_precision=PRECISION)
    return higher, total, made


@triton.jit
def shared_attention_kernel(
    qkv, keys, values, starts, lengths, members, made_out, mass_out, capacity, scale, splits,
    HEADS: tl.constexpr, KV: tl.constexpr, DIM: tl.constexpr, MEMBERS: tl.constexpr, ROWS: tl.constexpr,
    SPLIT: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention of all rows that share a prefix over one split of it, and the log of its softmax mass.

    Grid: entry, kv head, split. made_out [rows, HEADS, splits, DIM] and mass_out [rows, HEADS, splits], float32.
    """
    entry, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + entry)
    first = split * SPLIT
    if first < length:
        group: tl.constexpr = HEADS // KV
        index = tl.arange(0, ROWS)
        member = index // group
        row = tl.load(members + entry * MEMBERS + member, mask=member < MEMBERS, other=-1)
        used = row >= 0
        row = tl.maximum(row, 0).to(tl.int64)
        dims = tl.arange(0, DIM)
        query_head = head * group + index % group
        at = row[:, None] * (HEADS + 2 * KV) * DIM + query_head[:, None] * DIM + dims[None, :]
        queries = tl.load(qkv + at, mask=used[:, None], other=0.0)
        run = (head * capacity.to(tl.int64) + tl.load(starts + entry).to(tl.int64)) * DIM
        top = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        made = tl.zeros([ROWS, DIM], tl.float32)
        last = tl.minimum(first + SPLIT, length)
        for begin in range(first, last, BLOCK):
            token = begin + tl.arange(0, BLOCK)
            inside = token < last
            at_token = run + token[:, None] * DIM + dims[None, :]
            k = tl.load(keys + at_token, mask=inside[:, None], other=0.0)
            v = tl.load(values + at_token, mask=inside[:, None], other=0.0)
            top, total, made = _look(queries, k, v, top, total, made, inside[None, :], scale, PRECISION)
        goal = (row * HEADS + query_head) * splits + split
        tl.store(made_out + goal[:, None] * DIM + dims[None, :], made / total[:, None], mask=used[:, None])
        tl.store(mass_out + goal, top + tl.log(total), mask=used)


@triton.jit
def own_attention_kernel(
    qkv, keys, values, own_starts, own_lengths, before, made_in, mass_in, out, capacity, scale, splits,
    HEADS: tl.constexpr, KV: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
    SPLIT: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A row's attention over its own tokens, combined with the result for the shared prefix. Grid: row, kv head.

    `own_lengths` counts the tokens before the current one, which is already stored.
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    group: tl.constexpr = HEADS // KV
    index = tl.arange(0, ROWS)
    used = index < group
    dims = tl.arange(0, DIM)
    query_head = head * group + index
    at = row * (HEADS + 2 * KV) * DIM + query_head[:, None] * DIM + dims[None, :]
    queries = tl.load(qkv + at, mask=used[:, None], other=0.0)
    run = (head * capacity.to(tl.int64) + tl.load(own_starts + row).to(tl.int64)) * DIM
    length = tl.load(own_lengths + row) + 1
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    made = tl.zeros([ROWS, DIM], tl.float32)
    for begin in range(0, length, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        inside = token < length
        at_token = run + token[:, None] * DIM + dims[None, :]
        k = tl.load(keys + at_token, mask=inside[:, None], other=0.0)
        v = tl.load(values + at_token, mask=inside[:, None], other=0.0)
        top, total, made = _look(queries, k, v, top, total, made, inside[None, :], scale, PRECISION)
    pieces = (tl.load(before + row) + SPLIT - 1) // SPLIT
    for split in range(0, pieces):
        source = (row * HEADS + query_head) * splits + split
        mass = tl.load(mass_in + source, mask=used, other=float("-inf"))
        part = tl.load(made_in + source[:, None] * DIM + dims[None, :], mask=used[:, None], other=0.0)
        higher = tl.maximum(top, mass)
        fade, share = tl.exp(top - higher), tl.exp(mass - higher)
        total = total * fade + share
        made = made * fade[:, None] + part * share[:, None]
        top = higher
    goal = (row * HEADS + query_head[:, None]) * DIM + dims[None, :]
    tl.store(out + goal, (made / total[:, None]).to(out.dtype.element_ty), mask=used[:, None])


@triton.jit
def rest_attention_kernel(
    qkv, keys, values, rests, out, capacity, scale,
    HEADS: tl.constexpr, KV: tl.constexpr, DIM: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention of a question's own tokens over the prefix and, causally, themselves.

    Grid: question, block of rows, head. `rests` int32 [questions, 5]: first token in the chunk, number of tokens, place
    of its own keys, place and length of the prefix.
    """
    question, block, head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    fields = rests + question * 5
    start, length, own = tl.load(fields), tl.load(fields + 1), tl.load(fields + 2)
    shared, before = tl.load(fields + 3), tl.load(fields + 4)
    index = block * ROWS + tl.arange(0, ROWS)
    used = index < length
    dims = tl.arange(0, DIM)
    token_row = (start + index).to(tl.int64)
    at = token_row[:, None] * (HEADS + 2 * KV) * DIM + head * DIM + dims[None, :]
    queries = tl.load(qkv + at, mask=used[:, None], other=0.0)
    kv = (head // (HEADS // KV)) * capacity.to(tl.int64)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    made = tl.zeros([ROWS, DIM], tl.float32)
    # Own tokens come first: each row sees at least itself there, so the running maximum is finite.
    for begin in range(0, length, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        inside = token < length
        at_token = (kv + own + token[:, None]) * DIM + dims[None, :]
        k = tl.load(keys + at_token, mask=inside[:, None], other=0.0)
        v = tl.load(values + at_token, mask=inside[:, None], other=0.0)
        seen = token[None, :] <= tl.minimum(index, length - 1)[:, None]
        top, total, made = _look(queries, k, v, top, total, made, seen, scale, PRECISION)
    for begin in range(0, before, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        inside = token < before
        at_token = (kv + shared + token[:, None]) * DIM + dims[None, :]
        k = tl.load(keys + at_token, mask=inside[:, None], other=0.0)
        v = tl.load(values + at_token, mask=inside[:, None], other=0.0)
        top, total, made = _look(queries, k, v, top, total, made, inside[None, :], scale, PRECISION)
    goal = token_row[:, None] * HEADS * DIM + head * DIM + dims[None, :]
    tl.store(out + goal, (made / total[:, None]).to(out.dtype.element_ty), mask=used[:, None])
