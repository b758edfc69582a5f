"""Sums in fixed point: exact where they claim to be, and deaf to order and chunks."""

import math
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evovlm.methods._fixed_point import (
    PRODUCT_BITS,
    exponent,
    fixed_dot,
    fixed_point,
    integer_sums,
    largest_magnitude,
    largest_of,
)

floats = st.floats(-1e3, 1e3, width=32)
vectors = arrays(np.float32, st.integers(1, 60), elements=floats)


@settings(deadline=None)
@given(st.floats(2.0**-90, 2.0**126, width=32))
def test_the_largest_term_lands_just_under_two_to_the_31(largest):
    scaled = Fraction(largest) * Fraction(2) ** exponent(largest)
    assert 2**30 <= scaled < 2**31


def test_no_scale_for_what_cannot_be_scaled():
    assert [exponent(value) for value in (0.0, math.inf, math.nan)] == [0, 0, 0]


@settings(deadline=None)
@given(vectors, st.randoms(use_true_random=False))
def test_integer_sums_are_exact(values, random):
    magnitudes = torch.from_numpy(np.abs(values))
    keep = torch.tensor([random.randrange(2) for _ in values], dtype=torch.uint8)
    integers = fixed_point(magnitudes, exponent(largest_magnitude(magnitudes)))
    exact = [int(value) for value in integers.tolist()]
    kept = sum(value for value, flag in zip(exact, keep.tolist(), strict=True) if flag)
    assert integer_sums(integers, keep) == (sum(exact), kept)


def test_integer_sums_stay_exact_over_many_blocks():
    integers = torch.full((200_001,), 2.0**31 - 128)
    keep = torch.zeros(200_001, dtype=torch.uint8)
    keep[-3:] = 1
    assert integer_sums(integers, keep) == (200_001 * (2**31 - 128), 3 * (2**31 - 128))


@settings(deadline=None)
@given(vectors, st.integers(1, 20))
def test_a_dot_product_does_not_depend_on_order_or_pieces(values, piece):
    left, right = torch.from_numpy(values), torch.from_numpy(values[::-1].copy())
    bound = largest_magnitude(left) * largest_magnitude(right)
    whole = fixed_dot(left, right, bound)
    assert whole == fixed_dot(left.flip(0), right.flip(0), bound)
    starts = range(0, len(values), piece)
    assert whole == sum(fixed_dot(left[a : a + piece], right[a : a + piece], bound) for a in starts)


def test_a_dot_product_is_right():
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(2, 100_000, generator=generator)
    bound = largest_magnitude(left) * largest_magnitude(right)
    found = math.ldexp(fixed_dot(left, right, bound), -exponent(bound, PRODUCT_BITS))
    assert abs(found - float(left.double() @ right.double())) < 1e-6


def test_the_largest_magnitude_may_be_negative_and_nan_is_never_lost():
    assert largest_magnitude(torch.tensor([1.0, -3.0])) == 3.0
    assert largest_magnitude(torch.empty(0)) == 0.0
    assert math.isnan(largest_magnitude(torch.tensor([1.0, math.nan, 2.0])))
    assert math.isnan(largest_of([1.0, math.nan, 2.0]))
    assert largest_of([1.0, 3.0, 2.0]) == 3.0
