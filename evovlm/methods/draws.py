"""Counter-based random draws: an element's draw depends only on the seed, source, tensor name and element index.

Knows no weights, densities or models. Uses Philox4x32-10 (Salmon et al., SC'11); NumPy's own Philox is 4x64.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 65536  # a draw is one of 0 ... LEVELS - 1
LANES = 8  # draws per counter: 128 bits, 16 bits per draw
# Counters processed at once: four arrays of 128 KiB stay in a core's level-2 cache.
BLOCK = 16384
M0, M1 = 0xD2511F53, 0xCD9E8D57
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 2**64 - 1
HALF = np.uint64(32)

Words: TypeAlias = NDArray[np.uint64]  # 32-bit words, each in a 64-bit lane


@lru_cache(maxsize=1 << 16)
def draw_key(seed: int, source: str, tensor: str) -> int:
    r"""The 64-bit Philox key of one source's draws for one tensor.

    It is the first 8 bytes, little-endian, of BLAKE2b (64-byte digest, no key) over the UTF-8 text
    `SEED\0SOURCE\0TENSOR`, with the seed in decimal and the tensor's canonical name.
    """
    text = f"{seed}\0{source}\0{tensor}"
    return int.from_bytes(hashlib.blake2b(text.encode()).digest()[:8], "little")


def philox_draws(key: int, start: int, stop: int) -> NDArray[np.uint16]:
    """Draws of elements start ... stop - 1, each uniform in 0 ... 65535: uint16 [stop - start].

    Element e takes draw e % 8 of counter e // 8; a counter's four words give eight draws, low halves first.
    """
    first, last = start // LANES, -(-stop // LANES)
    out = np.empty((last - first, 2), dtype=np.uint64)
    begin = first
    while begin < last:
        high = begin >> 32  # the counter's second word, constant within a block
        end = min(begin + BLOCK, last, (high + 1) << 32)
        low = np.arange(begin - (high << 32), end - (high << 32), dtype=np.uint64)
        for column, words in enumerate(philox4x32(low, (high, 0, 0), key)):
            np.bitwise_or(words >> HALF, words << HALF, out=out[begin - first : end - first, column])
        begin = end
    return out.view("<u2").reshape(-1)[start - first * LANES : stop - first * LANES]


def philox4x32(low: Words, rest: tuple[int, int, int], key: int) -> tuple[Words, Words]:
    """Philox4x32-10: output words 0 and 1, and words 2 and 3, uint64 [n] each, with the first word in the high half.

    low: uint64 [n], the first words of the counters. rest: the other three words, the same for all. key: 64 bits.
    With two words per lane, a << 32 | b, the exchange of words between rounds is a shift. After the first round
    one pair is still the same for all counters, so the first two rounds compute only the other pair.
    """
    keys = [[(key >> 32 * half) + turn * WEYL[half] << 32 & MASK for half in (0, 1)] for turn in range(ROUNDS)]
    same = rest[1] * M1 ^ rest[0] << 32 ^ keys[0][0]
    right = low * np.uint64(M0)
    np.bitwise_xor(right, np.uint64(rest[2] << 32 ^ keys[0][1]), out=right)
    left = right >> HALF
    np.multiply(left, np.uint64(M1), out=left)
    np.bitwise_xor(left, np.uint64(same << 32 & MASK ^ keys[1][0]), out=left)
    np.left_shift(right, HALF, out=right)
    np.bitwise_xor(right, np.uint64((same >> 32) * M0 ^ keys[1][1]), out=right)
    from_left, from_right = np.empty_like(low), np.empty_like(low)
    for round_keys in keys[2:]:
        pairs = ((right, M1, from_right), (left, M0, from_left))
        for source, multiplier, target in pairs:
            np.right_shift(source, HALF, out=target)
            np.multiply(target, np.uint64(multiplier), out=target)
        for state, round_key, product in zip((left, right), round_keys, (from_right, from_left), strict=True):
            np.left_shift(state, HALF, out=state)
            np.bitwise_xor(state, np.uint64(round_key), out=state)
            np.bitwise_xor(state, product, out=state)
    return left, right


class Draws:
    """The draws of one source for one tensor, generated on demand.

    `keep`: cache generated draws, for callers that merge the same tensor repeatedly. The numbers are the same
    either way. Threads may share an instance only if it does not cache.
    """

    def __init__(self, seed: int, source: str, tensor: str, keep: bool = False) -> None:
        self.key = draw_key(seed, source, tensor)
        self._keep = keep
        self._kept: NDArray[np.uint16] | None = None

    def raw(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Draws of elements start ... stop - 1 as uint16 [stop - start]; do not write to it."""
        if not self._keep:
            return philox_draws(self.key, start, stop)
        if self._kept is None or stop > len(self._kept):
            self._kept = philox_draws(self.key, 0, stop)
        return self._kept[start:stop]

    def take(self, start: int, stop: int) -> Tensor:
        """Draws of elements start ... stop - 1 as int32 [stop - start]."""
        return torch.from_numpy(self.raw(start, stop).astype(np.int32))


def threshold(probability: float) -> int:
    """round(probability x 65536), halves to even: an element is kept if its draw is below this."""
    return round(probability * LEVELS)
