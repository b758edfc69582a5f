"""What is dropped: how many, which, and by whose word where magnitudes are equal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evovlm.methods import MergeOptions, Operand, Tables
from evovlm.methods._drop import keep_mask, rescale_factor
from evovlm.methods._order_statistics import order_statistics
from evovlm.methods.draws import Draws, philox_draws, threshold
from evovlm.methods.operand import TaskVector

DROPS = ["random", "magnitude", "breadcrumbs", "della"]
DRAWS = Draws(5, "ja", "w")
# Few different values, so that many are equal.
coarse = arrays(np.float32, st.integers(1, 80), elements=st.integers(-4, 4).map(float))


def vector_of(delta, density, *, chunk=16, tables=None, mask=None):
    tensor = torch.as_tensor(delta, dtype=torch.float32)
    operand = Operand(tensor, 1.0, density, DRAWS, tables, mask)
    return TaskVector(torch.zeros(tensor.numel()), operand, chunk)


def kept(delta, drop, density, **options):
    tables = options.pop("tables", None)
    chunk = options.pop("chunk", 16)
    return keep_mask(vector_of(delta, density, chunk=chunk, tables=tables), drop, MergeOptions(**options))


@pytest.mark.parametrize("drop", DROPS)
@settings(deadline=None)
@given(delta=coarse, densities=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_masks_are_nested_in_density(drop, delta, densities):
    # della's spread shrinks near 0 and 1, but no element's keep-probability falls as density rises.
    low, high = sorted(densities)
    # Breadcrumbs drops fewer of the top as density rises, and more of the bottom than a larger gamma would.
    few, many = (kept(delta, drop, density, gamma=0.0) for density in (low, high))
    few = np.ones(len(delta), bool) if few is None else few
    many = np.ones(len(delta), bool) if many is None else many
    assert not (few & ~many).any()


@pytest.mark.parametrize("drop", DROPS)
@settings(deadline=None)
@given(delta=coarse, density=st.floats(0, 1), chunk=st.integers(1, 100))
def test_masks_depend_on_neither_chunks_nor_tables(drop, delta, density, chunk):
    expected = kept(delta, drop, density, gamma=0.1)
    for other in (
        kept(delta, drop, density, gamma=0.1, chunk=chunk),
        kept(delta, drop, density, gamma=0.1, tables=Tables()),
    ):
        assert np.array_equal(expected, other)


@settings(deadline=None)
@given(density=st.floats(0, 0.999999))
def test_dare_keeps_the_elements_whose_draw_lies_below_the_threshold(density):
    expected = philox_draws(DRAWS.key, 0, 300) < threshold(density)
    assert np.array_equal(kept(np.ones(300), "random", density), expected)


@pytest.mark.parametrize("drop", DROPS)
def test_a_density_of_one_drops_nothing(drop):
    assert kept(np.ones(9), drop, 1.0) is None


def test_magnitude_keeps_the_largest_whatever_their_sign():
    assert kept([0.1, -5.0, 3.0, -0.2, 4.0], "magnitude", 0.6).tolist() == [False, True, True, False, True]


def test_magnitude_counts_down_but_keeps_one():
    assert kept(np.arange(1.0, 11.0), "magnitude", 0.39).sum() == 3
    assert kept(np.arange(1.0, 11.0), "magnitude", 0.01).tolist() == [False] * 9 + [True]


def test_draws_decide_among_equals():
    delta = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0])
    mask = kept(delta, "magnitude", 0.5)  # five wanted: the 2, and four of the eight ones
    chosen = philox_draws(DRAWS.key, 0, 10) < 32768
    assert np.array_equal(mask, (delta == 2.0) | (delta == 1.0) & chosen)


def test_equals_that_are_all_wanted_are_all_kept():
    delta = np.array([2.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    assert kept(delta, "magnitude", 0.67).tolist() == [True] * 4 + [False] * 2


def test_about_as_many_equals_are_kept_as_are_wanted():
    assert abs(int(kept(np.ones(100_000), "magnitude", 0.3, chunk=4096).sum()) - 30_000) < 600


def test_breadcrumbs_drops_the_top_and_the_bottom():
    assert kept(np.arange(1.0, 11.0), "breadcrumbs", 0.5, gamma=0.2).tolist() == [
        False, False, False, True, True, True, True, True, False, False,
    ]  # fmt: skip


def test_breadcrumbs_spares_the_top_where_density_needs_it():
    assert kept(np.arange(1.0, 11.0), "breadcrumbs", 0.9, gamma=0.5).tolist() == [True] * 9 + [False]


def test_breadcrumbs_of_equals_keeps_the_share():
    assert abs(int(kept(np.ones(50_000), "breadcrumbs", 0.3, gamma=0.1).sum()) - 15_000) < 500


def test_della_keeps_large_elements_more_often_row_by_row():
    rows = np.tile(np.arange(100.0), (2000, 1))
    share = kept(rows, "della", 0.5, epsilon=0.2, chunk=4096).reshape(rows.shape).mean(0)
    expected = 0.3 + 0.4 * np.arange(100) / 99
    assert np.abs(share - expected).max() < 0.05


def test_della_ranks_within_rows_and_equals_by_index():
    delta = np.array([[3.0, 1.0, 2.0], [-1.0, 1.0, 1.0]])
    limits = np.rint(np.array([0.25, 0.5, 0.75]) * 65536)[[[2, 0, 1], [0, 1, 2]]].reshape(-1)
    expected = philox_draws(DRAWS.key, 0, 6) < limits
    assert np.array_equal(kept(delta, "della", 0.5, epsilon=0.25), expected)


def test_dellas_spread_fits_the_density():
    # Density 0.1 limits epsilon to 0.1: the smallest is never kept, the largest one time in five.
    rows = np.tile([1.0, 2.0], (20_000, 1))
    share = kept(rows, "della", 0.1, epsilon=0.15, chunk=4096).reshape(rows.shape).mean(0)
    assert share[0] == 0.0
    assert share[1] == pytest.approx(0.2, abs=0.02)


def test_l1_restores_the_norm():
    delta, mask = torch.tensor([1.0, 2.0, -3.0, 2.0]), torch.tensor([True, False, False, True])
    vector = vector_of(delta, 0.5, mask=mask)
    found = rescale_factor(vector, mask.numpy(), "random", MergeOptions(rescale="l1"))
    assert found == pytest.approx(8 / 3, rel=1e-9)


def test_inverse_divides_by_the_density_that_draws_can_say():
    mask = np.array([True, False])
    for drop in DROPS:
        vector = vector_of([1.0, 2.0], 0.3)
        assert rescale_factor(vector, mask, drop, MergeOptions(rescale="inverse")) == 65536 / 19661


@pytest.mark.parametrize("rescale", ["l1", "inverse", "none"])
def test_nothing_left_is_not_rescaled(rescale):
    vector = vector_of([1.0, 2.0], 0.0)
    assert rescale_factor(vector, np.zeros(2, bool), "random", MergeOptions(rescale=rescale)) == 1.0


@settings(deadline=None)
@given(
    delta=arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32) | st.integers(-2, 2).map(float)),
    data=st.data(),
)
def test_order_statistics_are_those_of_a_sort(delta, data):
    ranks = data.draw(st.lists(st.integers(0, len(delta) - 1), min_size=1, max_size=2))
    ascending = np.sort(np.abs(delta))
    for tables in (None, Tables()):
        for rank, found in zip(ranks, order_statistics(vector_of(delta, 0.5, tables=tables), ranks), strict=True):
            assert found.value == ascending[rank]
            assert found.below == int((ascending < ascending[rank]).sum())
            assert found.equal == int((ascending == ascending[rank]).sum())
