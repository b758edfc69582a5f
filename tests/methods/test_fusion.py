"""arcee_fusion: which elements it takes, against float64, and that nothing but the values decides."""

import math

import numpy as np
import pytest
import torch

from tests.float64_reference import merge as reference
from tests.methods.merging import Models, make_models, merge, same_bits


@pytest.mark.parametrize("shape", [(40, 30), (997,), (3, 50, 7), (2, 40000)])
@pytest.mark.parametrize("chunk", [100, 10**6])
def test_the_elements_are_those_of_float64_but_for_some_at_the_threshold(shape: tuple[int, ...], chunk: int):
    models = make_models(shape, 1)
    base, source = (tensor.double().numpy() for tensor in (models.base, *models.sources))
    expected = reference("arcee_fusion", base, [source], [1.0], [None], [1.0], normalize=False, rescale="none")
    merged = merge("arcee_fusion", models, chunk=chunk).double().numpy()
    sure = expected.decisiveness > 1e-4
    assert sure.mean() > 0.99
    assert np.array_equal(merged[sure], expected.merged[sure])


def test_arcee_fusion_takes_the_elements_of_the_rows_that_change_most():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(40, 30, generator=generator)
    source = base + 1e-3 * torch.randn(40, 30, generator=generator)
    source[5, 7] += 3.0
    merged = merge("arcee_fusion", Models(base, (source,)))
    taken = merged == source
    assert bool((taken | (merged == base)).all())
    assert bool(taken[5, 7])
    assert 0.0 < float(taken.float().mean()) < 0.25
    assert same_bits(merge("arcee_fusion", Models(base, (base.clone(),))), base)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_visible(bad: float):
    models = make_models()
    models.sources[0][3, 4] = bad
    assert not bool(torch.isfinite(merge("arcee_fusion", models)).all())


def test_no_bit_depends_on_threads_where_rows_are_wide():
    models = make_models((3, 50000), 1)
    alone = merge("arcee_fusion", models)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert same_bits(merge("arcee_fusion", models), alone)
    finally:
        torch.set_num_threads(threads)
