"""A quotient computed from a reciprocal has the bits of IEEE division."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

import triton
import triton.language as tl

from evovlm.methods.kernels._fused import _quotient
from tests.methods.kernels.fusing import DEVICE

COUNT = 1 << 14
RNG = np.random.default_rng(3)


@triton.jit
def divide(numerators, divisors, reciprocals, out, COUNT: tl.constexpr):
    places = tl.arange(0, COUNT)
    found = _quotient(tl.load(numerators + places), tl.load(divisors + places), tl.load(reciprocals + places))
    tl.store(out + places, found)


def any_mantissas() -> np.ndarray:
    return RNG.integers(1 << 23, 1 << 24, COUNT)


def near_one_or_two() -> np.ndarray:
    return RNG.choice([(1 << 23) + RNG.integers(0, 64, COUNT), (1 << 24) - 1 - RNG.integers(0, 64, COUNT)])


def near_midpoints() -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose quotient is as close to the middle between two floats as any: N 2**24 = M D + c, M odd, of 25 bits.

    M follows from an odd D and a small odd c, as M D + c must have that power of two as a factor.
    """
    found = []
    while len(found) < COUNT:
        divisor, c = int(RNG.integers(1 << 22, 1 << 23)) * 2 + 1, int(RNG.choice([-3, -1, 1, 3]))
        middle = -c * pow(divisor, -1, 1 << 25) % (1 << 25) | 1 << 24
        numerator = (middle * divisor + c) >> 24
        if numerator >= 1 << 24 and numerator % 2 == 0:
            numerator //= 2  # then the quotient is below 1
        if numerator < 1 << 24:
            found.append((numerator, divisor))
    pairs = np.array(found)
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize("low", [-101, 0, 60])
@pytest.mark.parametrize("cases", ["any", "near powers of two", "near midpoints"])
def test_is_rounded_to_nearest(cases: str, low: int):
    mantissas, others = {
        "any": lambda: (any_mantissas(), any_mantissas()),
        "near powers of two": lambda: (near_one_or_two(), near_one_or_two()),
        "near midpoints": near_midpoints,
    }[cases]()
    exponents = RNG.integers(low, low + 40, COUNT) - 23
    scales = RNG.integers(-20, 20, COUNT) - 23
    numerators = np.ldexp(mantissas.astype(np.float64) * RNG.choice([-1, 1], COUNT), exponents).astype(np.float32)
    divisors = np.ldexp(others.astype(np.float64) * RNG.choice([-1, 1], COUNT), scales).astype(np.float32)
    given = [torch.from_numpy(each).to(DEVICE) for each in (numerators, divisors, np.float32(1) / divisors)]
    out = torch.empty(COUNT, device=DEVICE)
    divide[(1,)](*given, out, COUNT=COUNT, enable_fp_fusion=False)
    assert np.array_equal(out.cpu().numpy(), numerators / divisors)
