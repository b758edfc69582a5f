"""The fused merge in Triton: reads base and sources once, generates masks on the fly, writes the merged tensor once.

Knows tables of addresses and numbers, which `layout` and `numbers` make; no models, recipes or files. One launch covers
any number of tensors with the same dtypes: a tile table says which tensor, and which of its elements, a program works
on. Results are bit-identical to the CPU's: products are rounded to float32 and added in source order (launched with
`enable_fp_fusion=False`), quotients are rounded to nearest.
"""

from __future__ import annotations

import triton
import triton.language as tl

from evovlm.methods import draws

# How a source's elements are dropped; the last two read an operand of their own.
KEEP_ALL, BY_DRAW, BY_MAGNITUDE, BY_WINDOW, BY_MASK, BY_FACTORS = (tl.constexpr(number) for number in range(6))
# A source's numbers for one tensor, int32 each, floats stored as their bits (`numbers` writes them).
WIDTH = tl.constexpr(8)
FACTOR, WEIGHT, LIMIT, EDGE, KEY_LOW, KEY_HIGH, TOP, TOP_LIMIT = (tl.constexpr(place) for place in range(8))
# Elements that share a Philox counter, and elements of an 8-bit task vector that share a scale.
LANES = tl.constexpr(8)
SHARED = tl.constexpr(64)
# Columns of the table of divisors: one per set of up to three sources.
SETS = tl.constexpr(8)
# Bits of float32.
SIGN, ONE = tl.constexpr(-(1 << 31)), tl.constexpr(0x3F800000)
# Numerators are multiplied by this before they are divided by a reciprocal, so that no remainder underflows.
LIFT = tl.constexpr(2.0**48)


ROUNDS = tl.constexpr(draws.ROUNDS)
M0, M1 = tl.constexpr(draws.M0), tl.constexpr(draws.M1)
WEYL0, WEYL1 = tl.constexpr(draws.WEYL[0]), tl.constexpr(draws.WEYL[1])


@triton.jit
def _philox(counter, key_low, key_high):
    """Philox4x32-10 of the counters (counter, 0, 0, 0): four uint32 words, each in the counters' shape.

    Uses 64-bit products, because the GPU computes both halves in one instruction; Triton's own Philox needs two.
    """
    c0 = counter
    c1 = counter * 0
    c2 = c1
    c3 = c1
    for _ in tl.static_range(ROUNDS):
        left = c0.to(tl.uint64) * M0
        right = c2.to(tl.uint64) * M1
        c0 = (right >> 32).to(tl.uint32) ^ c1 ^ key_low
        c2 = (left >> 32).to(tl.uint32) ^ c3 ^ key_high
        c1 = right.to(tl.uint32)
        c3 = left.to(tl.uint32)
        key_low = tl.add(key_low, WEYL0, sanitize_overflow=False)
        key_high = tl.add(key_high, WEYL1, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def draws_above(counter, key_low, key_high):
    """Eight draws per counter, in the upper 16 bits; the lower 16 are arbitrary: uint32 [counters, 8]."""
    w0, w1, w2, w3 = _philox(counter, key_low, key_high)
    # The last axis of a join varies fastest: first the low and high half of a word, then the words of a pair.
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    return tl.reshape(tl.join(words << 16, words), [counter.shape[0], LANES])


@triton.jit
def _number(row, place: tl.constexpr):
    return tl.load(row + place)


@triton.jit
def _float(row, place: tl.constexpr):
    return tl.load(row + place).to(tl.float32, bitcast=True)


@triton.jit
def _load(address, dtype: tl.constexpr, places, inside, WHOLE: tl.constexpr, ALIGN: tl.constexpr):
    pointer = tl.multiple_of(address.to(tl.pointer_type(dtype)), ALIGN)
    if WHOLE:
        return tl.load(pointer + places)
    return tl.load(pointer + places, mask=inside, other=0.0)


@triton.jit
def _shared_operands(addresses, row, source: tl.constexpr, EIGHT: tl.constexpr, DROP: tl.constexpr):
    """One source's data that all tiles of a tensor share: addresses of values and scales, mask or factors; its numbers.

    Read once per program, because for all the compiler knows a store could change these numbers.
    """
    values = tl.load(addresses + 2 + 2 * source)
    scales = tl.load(addresses + 3 + 2 * source) if EIGHT or DROP >= BY_MASK else values
    key_low = _number(row, KEY_LOW).to(tl.uint32, bitcast=True)
    key_high = _number(row, KEY_HIGH).to(tl.uint32, bitcast=True)
    limit = _number(row, LIMIT).to(tl.uint32, bitcast=True)
    edge, top = _float(row, EDGE), _float(row, TOP)
    top_limit = _number(row, TOP_LIMIT).to(tl.uint32, bitcast=True)
    return values, scales, _float(row, FACTOR), _float(row, WEIGHT), key_low, key_high, limit, edge, top, top_limit


@triton.jit
def _as_base(values, SOURCE: tl.constexpr, BASE: tl.constexpr):
    """Values rounded to the base's dtype, in float32."""
    wide = values.to(tl.float32)
    if SOURCE == BASE:
        return wide
    if tl.float32 == BASE:
        return wide
    return wide.to(BASE, fp_downcast_rounding="rtne").to(tl.float32)


@triton.jit
def _delta(
    told, base, places, groups, inside, count,
    BASE: tl.constexpr, SOURCE: tl.constexpr, EIGHT: tl.constexpr, PLAIN: tl.constexpr,
    WHOLE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """A task vector in float32: the source rounded to the base's dtype, minus the base.

    The source itself without a base, or if PLAIN: then it is used whole, or is a task vector.
    """
    values = _load(told[0], SOURCE, places, inside, WHOLE, ALIGN)
    if EIGHT:
        # Build floats from the bytes' bits and subtract 2**23 + 128: the GPU's own conversion is many times slower.
        bits = (values.to(tl.int32) & 0xFF) ^ 0x4B000080
        delta = bits.to(tl.float32, bitcast=True) - 8388736.0
        scales = _load(told[1], tl.float32, groups // (SHARED // LANES), groups * LANES < count, WHOLE, 4)
        delta = delta * scales[:, None]
    elif BASE is None or PLAIN:
        delta = values.to(tl.float32)
    else:
        delta = _as_base(values, SOURCE, BASE) - base
    return delta


@triton.jit
def _term(delta, told, groups, places, inside, DROP: tl.constexpr, WHOLE: tl.constexpr, ALIGN: tl.constexpr):
    """V: the kept part of a task vector times its factor. Multiplies, so that NaN and infinity stay visible."""
    factor = told[2]
    if DROP == KEEP_ALL:
        return delta * factor
    if DROP == BY_FACTORS:
        return delta * _load(told[1], tl.float32, places, inside, WHOLE, ALIGN) * factor
    if DROP == BY_MASK:
        keep = _load(told[1], tl.int8, places, inside, WHOLE, ALIGN) != 0
    else:
        draws = draws_above(groups.to(tl.uint32), told[4], told[5])
        keep = draws <= told[6]
        if DROP != BY_DRAW:
            # The draw selects the bound, the edge itself or the next float: fewer instructions than two comparisons.
            size = tl.abs(delta)
            keep = size >= tl.where(keep, told[7], _neighbour(told[7], 1))
            if DROP == BY_WINDOW:
                keep = keep & (size <= tl.where(draws <= told[9], told[8], _neighbour(told[8], -1)))
    return delta * tl.where(keep, factor, 0.0)


@triton.jit
def _neighbour(edge, step: tl.constexpr):
    """The float next to a positive one: larger if step is 1, smaller if it is -1."""
    return (edge.to(tl.int32, bitcast=True) + step).to(tl.float32, bitcast=True)


@triton.jit
def _reciprocal(part, divisors, SOURCES: tl.constexpr):
    """The reciprocal of the summed weights of the sources whose part is not 0; any if there is none.

    divisors: a number by set of sources, bit i for source i.
    """
    chosen = (divisors[1],) + divisors[1:]  # noqa: RUF005
    for source in tl.static_range(SOURCES):
        halves = ()
        for pair in tl.static_range(2 ** (SOURCES - 1 - source)):
            one, other = chosen[2 * pair + 1], chosen[2 * pair]
            halves = halves + (tl.where(part[source] != 0.0, one, other),)  # noqa: RUF005
        chosen = halves
    return chosen[0]


@triton.jit
def _quotient(numerator, divisor, reciprocal):
    """numerator / divisor, rounded to nearest, if the reciprocal is and nothing underflows or overflows.

    The first correction gives one of the two floats around the quotient. So its remainder is exact, and the second
    correction rounds as division does (P. Markstein, IBM Journal of Research and Development 34, 1990).
    """
    found = numerator * reciprocal
    found = tl.fma(tl.fma(-found, divisor, numerator), reciprocal, found)
    return tl.fma(tl.fma(-found, divisor, numerator), reciprocal, found)


@triton.jit
def _elected(
    terms, told, divisors, SOURCES: tl.constexpr, NORMALIZE: tl.constexpr, RECIPROCALS: tl.constexpr
):  # fmt: skip
    """Tau of TIES, whose signs are elected by summed mass: terms that disagree add nothing.

    Times LIFT if it was divided by reciprocals, times two if it was not divided.
    """
    tau = terms[0]
    for source in tl.static_range(1, SOURCES):
        tau = tau + terms[source]
    # Each term is added twice, as it is and as its magnitude with the elected sign: that gives twice the term if the
    # signs agree, else 0. Doubling is exact.
    elected = ((tau.to(tl.int32, bitcast=True) & SIGN) | ONE).to(tl.float32, bitcast=True)
    parts = ()
    for source in tl.static_range(SOURCES):
        parts = parts + (tl.fma(elected, tl.abs(terms[source]), terms[source]),)  # noqa: RUF005
    tau = parts[0]
    mass = tl.where(parts[0] != 0.0, told[0][3], 0.0)
    for source in tl.static_range(1, SOURCES):
        tau = tau + parts[source]
        mass = mass + tl.where(parts[source] != 0.0, told[source][3], 0.0)
    if NORMALIZE and RECIPROCALS:
        return _quotient(tau * (0.5 * LIFT), mass, _reciprocal(parts, divisors, SOURCES))
    if NORMALIZE:
        tau = tau * 0.5
        # A zero numerator gives zero; dividing it anyway takes the GPU's slow path, and the whole warp waits.
        some = tau != 0.0
        tau = tl.where(some, tl.div_rn(tl.where(some, tau, 1.0), tl.where(mass == 0.0, 1.0, mass)), tau)
    return tau


@triton.jit
def _with_base(tau, base, told, BASE: tl.constexpr, MIX: tl.constexpr, UNIT: tl.constexpr):
    """Add tau x UNIT to the base, if there is one. UNIT: a power of two. MIX: as in `merge_tiles`."""
    if MIX:
        return tau * told[3] + base * told[7]
    if UNIT != 1.0:
        return tl.fma(tau, UNIT, base)  # the product is exact, so this rounds once, as adding does
    if BASE is not None:
        return tau + base
    return tau


@triton.jit
def _merged(
    out, origin, told, divisors, lambda_, tile, count,
    SOURCES: tl.constexpr, BASE: tl.constexpr, SOURCE: tl.constexpr, MERGED: tl.constexpr, OUT: tl.constexpr,
    DROP: tl.constexpr, ELECT: tl.constexpr, NORMALIZE: tl.constexpr, LAMBDA: tl.constexpr, EIGHT: tl.constexpr,
    MIX: tl.constexpr, VECTORS: tl.constexpr, GROUPS: tl.constexpr, WHOLE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Merge one tile and write it. Returns float32 sums [GROUPS] of eight values each: finite if all of them are."""
    groups = tile.to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    places = groups[:, None] * LANES + tl.arange(0, LANES)[None, :]
    inside = places < count
    base = 0.0
    if BASE is not None:
        base = _load(origin, BASE, places, inside, WHOLE, ALIGN).to(tl.float32)
        if not MIX:
            base = base + 0.0  # turns -0 into 0, so that no zero has a sign that depends on the order of a sum
    terms = ()
    for source in tl.static_range(SOURCES):
        delta = _delta(
            told[source], base, places, groups, inside, count, BASE, SOURCE[source], EIGHT, MIX or VECTORS, WHOLE, ALIGN
        )
        terms = terms + (_term(delta, told[source], groups, places, inside, DROP, WHOLE, ALIGN),)  # noqa: RUF005
    RECIPROCALS: tl.constexpr = WHOLE and ELECT and NORMALIZE and SOURCES <= 3
    UNIT: tl.constexpr = 1.0 / LIFT if RECIPROCALS else (0.5 if ELECT and not NORMALIZE else 1.0)
    if ELECT:
        tau = _elected(terms, told, divisors, SOURCES, NORMALIZE, RECIPROCALS)
    else:
        tau = terms[0]
        for source in tl.static_range(1, SOURCES):
            tau = tau + terms[source]
        if NORMALIZE:
            tau = tl.div_rn(tau, tl.zeros_like(tau) + divisors[0])
    if LAMBDA:
        tau = _with_base(tau * UNIT * lambda_, base, told[0], BASE, MIX, 1.0)
    else:
        tau = _with_base(tau, base, told[0], BASE, MIX, UNIT)
    rounded = tau.to(MERGED, fp_downcast_rounding="rtne") if tl.float32 != MERGED else tau
    # Only float16 can overflow in the rounding alone.
    seen = rounded.to(tl.float32) if tl.float16 == MERGED else tau
    pointer = tl.multiple_of(out.to(tl.pointer_type(OUT)), ALIGN)
    if WHOLE:
        tl.store(pointer + places, rounded.to(OUT))
        return tl.sum(seen, axis=1)
    tl.store(pointer + places, rounded.to(OUT), mask=inside)
    return tl.sum(tl.where(inside, seen, 0.0), axis=1)


@triton.jit
def merge_tiles(
    tiles, addresses, counts, numbers, divisors, faults, lambda_,
    SOURCES: tl.constexpr, BASE: tl.constexpr, SOURCE: tl.constexpr, MERGED: tl.constexpr, OUT: tl.constexpr,
    DROP: tl.constexpr, ELECT: tl.constexpr, NORMALIZE: tl.constexpr, LAMBDA: tl.constexpr, EIGHT: tl.constexpr,
    MIX: tl.constexpr, VECTORS: tl.constexpr, GROUPS: tl.constexpr, REPEATS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Each program merges a run of tiles.

    tiles: int32 [programs, 2], tensor and run. addresses: int64 [tensors, 2 + 2 SOURCES]: out, base, and each source's
    values and scales (or mask, int8, or factors, float32). counts: int64 [tensors]. numbers: int32 [tensors, SOURCES,
    WIDTH]. divisors: float32 [tensors, SETS]. faults: int32 [tensors], set to 1 if a merged value is not finite.
    SOURCE: each source's dtype. MIX: interpolate between base and average, with the shares that the first source has
    as WEIGHT and EDGE. VECTORS: the sources are task vectors already, of any dtype.
    """
    tensor = tl.load(tiles + 2 * tl.program_id(0))
    run = tl.load(tiles + 2 * tl.program_id(0) + 1)
    count = tl.load(counts + tensor)
    addresses = addresses + tensor * (2 + 2 * SOURCES)
    numbers = numbers + tensor * (SOURCES * WIDTH)
    out = tl.load(addresses)
    origin = tl.load(addresses + 1)
    told = ()
    for source in tl.static_range(SOURCES):
        told = told + (_shared_operands(addresses, numbers + source * WIDTH, source, EIGHT, DROP),)  # noqa: RUF005
    shared = (tl.load(divisors + tensor * SETS),)
    whole = (run.to(tl.int64) + 1) * (REPEATS * GROUPS * LANES) <= count
    if ELECT and NORMALIZE and SOURCES <= 3:
        for chosen in tl.static_range(1, 2**SOURCES):
            shared = shared + (tl.load(divisors + tensor * SETS + chosen),)  # noqa: RUF005
        whole = whole & (shared[0] != 0.0)  # otherwise quotients are divided out, as in the last tile
    total = tl.zeros([GROUPS], tl.float32)
    if whole:
        for turn in range(REPEATS):
            total += _merged(
                out, origin, told, shared, lambda_, run * REPEATS + turn, count, SOURCES, BASE, SOURCE, MERGED, OUT,
                DROP, ELECT, NORMALIZE, LAMBDA, EIGHT, MIX, VECTORS, GROUPS, True, ALIGN,
            )  # fmt: skip
    else:
        for turn in range(REPEATS):
            total += _merged(
                out, origin, told, shared, lambda_, run * REPEATS + turn, count, SOURCES, BASE, SOURCE, MERGED, OUT,
                DROP, ELECT, NORMALIZE, LAMBDA, EIGHT, MIX, VECTORS, GROUPS, False, ALIGN,
            )  # fmt: skip
    # The difference is 0 if the sum is finite, else NaN. Each thread reports its own sums, because a sum over the
    # program would take shuffles and a barrier.
    tl.store(faults + tensor + tl.zeros([GROUPS], tl.int32), 1, mask=total - total != 0.0)
