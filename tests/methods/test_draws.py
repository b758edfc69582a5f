"""The draws: known answers, one number an element however it is asked for, and frozen keys."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evovlm.methods import draws
from evovlm.methods.draws import BLOCK, LANES, Draws, draw_key, philox4x32, philox_draws, threshold

# From the Random123 distribution's known-answer vectors for philox4x32, 10 rounds: counter, key, output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

FROZEN_KEY = 774492105127528508
FROZEN_DRAWS = [26404, 62311, 65499, 55647]


def words(counter: int, key: int) -> list[int]:
    """The four output words of one counter below 2**64."""
    pairs = philox4x32(np.array([counter & 0xFFFFFFFF], dtype=np.uint64), (counter >> 32, 0, 0), key)
    return [int(pair[0]) >> shift & 0xFFFFFFFF for pair in pairs for shift in (32, 0)]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, answer):
    low = np.array([counter[0]], dtype=np.uint64)
    left, right = philox4x32(low, counter[1:], key[0] | key[1] << 32)
    found = [int(pair[0]) >> shift & 0xFFFFFFFF for pair in (left, right) for shift in (32, 0)]
    assert found == [int(word, 16) for word in answer.split()]


def test_a_counter_gives_eight_draws_low_halves_first():
    found = philox_draws(0, 0, 8)
    assert found.tolist() == [0xE8D5, 0x6627, 0xC58D, 0xE169, 0xAC4C, 0xBC57, 0xDBD8, 0x9B00]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 200), st.integers(0, 200))
def test_any_stretch_is_a_piece_of_the_whole(key, start, length):
    whole = philox_draws(key, 0, 400)
    assert np.array_equal(philox_draws(key, start, start + length), whole[start : start + length])


def test_stretches_over_the_edge_of_a_block_join(monkeypatch):
    edge = BLOCK * LANES
    whole = philox_draws(7, edge - 50, edge + 50)
    monkeypatch.setattr(draws, "BLOCK", 3)
    assert np.array_equal(philox_draws(7, edge - 50, edge + 50), whole)


def test_counters_carry_into_the_second_word():
    edge = 2**32 * LANES
    stretch = philox_draws(9, edge - 8, edge + 8)
    halves = [
        half for counter in (2**32 - 1, 2**32) for word in words(counter, 9) for half in (word & 0xFFFF, word >> 16)
    ]
    assert stretch.tolist() == halves


def test_draws_are_uniform():
    counts = np.bincount(philox_draws(1234, 0, 2**20) >> 8, minlength=256)
    # chi-square with 255 degrees of freedom: mean 255, standard deviation 22.6.
    chi = float(((counts - 4096) ** 2 / 4096).sum())
    assert 155 < chi < 355


def test_the_key_is_frozen():
    assert draw_key(0, "ja", "model.norm.weight") == int.from_bytes(
        hashlib.blake2b(b"0\x00ja\x00model.norm.weight").digest()[:8], "little"
    )
    assert draw_key(0, "ja", "model.norm.weight") == FROZEN_KEY
    assert philox_draws(FROZEN_KEY, 0, 4).tolist() == FROZEN_DRAWS


def test_seed_source_and_tensor_each_change_the_key():
    keys = {draw_key(*text) for text in [(0, "a", "b"), (1, "a", "b"), (0, "b", "b"), (0, "a", "c"), (0, "a\0b", "")]}
    assert len(keys) == 5


def test_kept_draws_are_the_same_numbers():
    fresh, kept = Draws(3, "ja", "w"), Draws(3, "ja", "w", keep=True)
    for start, stop in ((5, 20), (0, 300), (17, 40), (299, 300)):
        assert np.array_equal(fresh.take(start, stop), kept.take(start, stop))


def test_threads_share_draws():
    source = Draws(3, "ja", "w")
    whole = source.take(0, 4000)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: source.take(start, start + 100), range(0, 4000, 100)))
    assert np.array_equal(np.concatenate(parts), whole)


def test_thresholds_round_halves_to_even():
    assert [threshold(value / 65536) for value in (0.5, 1.5, 2.5, 65535.5)] == [0, 2, 2, 65536]
    assert threshold(0.25) == 16384
