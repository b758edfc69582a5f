"""sce, ram, ramplus_tl and nearswap: worked by hand, against float64, and at their thresholds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.float64_reference import merge as reference
from tests.methods.merging import Models, make_models, merge, same_bits
from tests.parameters import slow_but

OPTIONS = [
    *(("sce", {"select_topk": share}) for share in (1.0, 0.4, 0.03, 0.0)),
    *(("ram", {"threshold": threshold}) for threshold in (1e-5, 0.01)),
    *(
        ("ramplus_tl", {"threshold": threshold, "r": 0.5, "alpha": alpha})
        for threshold in (1e-3, 0.01)
        for alpha in (0.1, 9.0)
    ),
    *(("nearswap", {"t": t}) for t in (1e-4, 0.005, 1.0, 0.0, -1.0)),
]
SELECTING = ["sce", "ram", "ramplus_tl", "nearswap"]


def by_hand(method: str, base: list[float], sources: list[list[float]], **own: float) -> list[float]:
    models = Models(torch.tensor(base), tuple(map(torch.tensor, sources)))
    return list(merge(method, models, weights=[1.0] * 4, densities=[1.0] * 4, names="abcd", own=own).tolist())


@pytest.mark.parametrize("shape", [(40, 30), (997,), (3, 50, 7)])
@pytest.mark.parametrize(("method", "own"), OPTIONS)
def test_float32_agrees_with_float64(method: str, own: dict[str, float], shape: tuple[int, ...]):
    models = make_models(shape, 1 if method == "nearswap" else 3)
    sources = [tensor.double().numpy() for tensor in models.sources]
    nothing, ones = [None] * len(sources), [1.0] * len(sources)
    base = models.base.double().numpy()
    expected = reference(method, base, sources, ones, nothing, ones, normalize=False, rescale="none", **own)
    error = np.abs(merge(method, models, own=own).double().numpy() - expected.merged)
    sure = expected.decisiveness > 1e-4
    assert sure.mean() > 0.99
    assert np.linalg.norm(error[sure]) <= 1e-6 * np.linalg.norm(expected.merged)


@pytest.mark.parametrize(("method", "own"), OPTIONS)
@pytest.mark.parametrize("chunk", slow_but([1, 7, 10**6], [7]))
def test_no_bit_depends_on_the_chunk_size(method: str, own: dict[str, float], chunk: int):
    models = make_models((31, 23), 3, dtype=torch.bfloat16)
    assert same_bits(merge(method, models, own=own, chunk=chunk), merge(method, models, own=own))


def test_ram_averages_what_is_active_and_keeps_the_base_elsewhere():
    sources = [[3.0, 1.5, 1.0, 9.0], [5.0, 1.0, 1.25, 1.0]]  # task vectors: 2, 0.5, 0, 8 and 4, 0, 0.25, 0
    assert by_hand("ram", [1.0] * 4, sources, threshold=0.3) == [4.0, 1.5, 1.0, 9.0]
    # A magnitude equal to the threshold is not above it.
    assert by_hand("ram", [0.0], [[0.5]], threshold=0.5) == [0.0]


def test_ramplus_scales_what_one_source_alone_changes():
    """By hand: one source has 1 shared and 2 own elements, rho = 1/2; the other 1 and 1, rho = 1 is clipped to 3/4."""
    sources = [[2.0, 2.0, 2.0, 0.0], [4.0, 0.0, 0.0, 8.0]]
    found = by_hand("ramplus_tl", [0.0] * 4, sources, r=0.5, alpha=0.75, threshold=1.0)
    assert found == [3.0, 2.5, 2.5, 11.0]


def test_sce_weighs_by_squares_and_erases_the_minority():
    """Mean squares 5 and 1 (of 3 + 1 elements: 20 / 4, 4 / 4): weights 5/6 and 1/6."""
    base, sources = [0.0] * 4, [[4.0, 2.0, 0.0, 0.0], [1.0, -1.0, 1.0, -1.0]]
    found = by_hand("sce", base, sources)
    assert found == pytest.approx([(4.0 * 5 + 1.0) / 6, 2.0, 1.0, -1.0], rel=1e-6)


def test_sce_weighs_equally_where_task_vectors_are_small():
    found = by_hand("sce", [0.0, 0.0], [[4e-4, 0.0], [1e-4, 1e-4]])
    assert found == pytest.approx([2.5e-4, 1e-4], rel=1e-6)


def test_sce_selects_the_first_of_equals_and_counts_only_what_varies():
    base, sources = [0.0] * 5, [[2.0, 2.0, 2.0, 2.0, 7.0], [0.0, 0.0, 0.0, 0.0, 7.0]]
    assert by_hand("sce", base, sources, select_topk=0.5) == [2.0, 2.0, 0.0, 0.0, 0.0]
    assert by_hand("sce", [0.0], [[3.0]], select_topk=0.99) == [0.0]
    assert by_hand("sce", [0.0], [[3.0]]) == [3.0]


def test_nearswap_takes_what_is_near_and_moves_the_rest_by_t():
    assert by_hand("nearswap", [1.0, 1.0, 1.0], [[1.25, 3.0, -1.0]], t=0.5) == [1.25, 1.5, 0.5]
    assert by_hand("nearswap", [1.0], [[3.0]], t=0.0) == [1.0]


@pytest.mark.parametrize("method", ["sce", "ram", "ramplus_tl"])
@settings(max_examples=20, deadline=None)
@given(order=st.permutations([0, 1, 2]), seed=st.integers(0, 10**6))
def test_the_order_of_sources_changes_only_rounding(method: str, order: list[int], seed: int):
    models = make_models((7, 9), 3, seed=seed)
    turned = Models(models.base, tuple(models.sources[index] for index in order))
    assert float((merge(method, models) - merge(method, turned)).abs().max()) < 1e-6


@pytest.mark.parametrize("method", SELECTING)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_sources_that_are_the_base_give_the_base(method: str, seed: int):
    base = make_models((7, 9), seed=seed).base
    assert torch.equal(merge(method, Models(base, (base.clone(), base.clone()))), base)


@pytest.mark.parametrize("method", ["sce", "ram", "ramplus_tl"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_equal_sources_give_the_source(method: str, seed: int):
    models = make_models((7, 9), 1, seed=seed)
    merged = merge(method, Models(models.base, models.sources * 3), own={"threshold": 0.0} if method != "sce" else {})
    assert float((merged - models.sources[0]).norm()) <= 1e-6 * float(models.sources[0].norm())


@pytest.mark.parametrize(("method", "own"), OPTIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_visible(method: str, own: dict[str, float], bad: float):
    models = make_models()
    models.sources[0][3, 4] = bad
    assert not bool(torch.isfinite(merge(method, models, own=own)).all())
