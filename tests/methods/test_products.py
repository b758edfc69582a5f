"""Polar factors and leading subspaces by products of matrices: against NumPy, refused where they would be arbitrary."""

import numpy as np
import pytest
import torch
from torch import Tensor

from evovlm.methods import singular
from evovlm.methods.isotropic import iso_c, iso_cts
from evovlm.methods.products import leading_by_products, norm, polar_by_products
from evovlm.methods.tsv import tsv_terms
from tests import float64_reference as reference

NEGLIGIBLE = singular.NEGLIGIBLE


def drawn(shape: tuple[int, int], smallest: float | None = None) -> Tensor:
    """A random matrix, or one with singular values from 1 down to `smallest`, evenly in their logarithms."""
    generator = torch.Generator().manual_seed(5)
    found = torch.randn(shape, generator=generator, dtype=torch.float64)
    if smallest is None:
        return found
    left, values, right = torch.linalg.svd(found, full_matrices=False)
    return left @ torch.diag(torch.logspace(0, np.log10(smallest), len(values), dtype=torch.float64)) @ right


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "by_products", lambda matrix: True)


@pytest.mark.parametrize("shape", [(40, 40), (90, 40), (40, 90), (44, 40), (5, 1)])
@pytest.mark.parametrize("smallest", [None, 1e-2, 1e-5])
def test_the_polar_factor_is_that_of_an_svd(shape, smallest):
    matrix = drawn(shape, smallest)
    left, _, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    found = polar_by_products(matrix, NEGLIGIBLE)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), left @ right, atol=1e-9)


@pytest.mark.parametrize("smallest", [5e-7, 1e-9, 1e-13])
@pytest.mark.parametrize("shape", [(40, 40), (60, 40)])
def test_there_is_no_polar_factor_with_negligible_singular_values(smallest, shape):
    assert polar_by_products(drawn(shape, smallest), NEGLIGIBLE) is None


@pytest.mark.parametrize("matrix", [torch.zeros(4, 4), torch.empty(4, 0), torch.full((4, 4), torch.inf)])
def test_what_has_no_direction_has_no_polar_factor(matrix):
    assert polar_by_products(matrix.double(), NEGLIGIBLE) is None


@pytest.mark.parametrize("shape", [(40, 40), (90, 40), (40, 90)])
@pytest.mark.parametrize("smallest", [None, 1e-2, 1e-4])
@pytest.mark.parametrize("count", [1, 13, 20, 39])
def test_the_leading_subspaces_are_those_of_an_svd(shape, smallest, count):
    matrix = drawn(shape, smallest)
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    found = leading_by_products(matrix, count, 0.0)
    assert found is not None
    own, core, other = (one.numpy() for one in found)
    np.testing.assert_allclose(own @ other.T, left[:, :count] @ right[:count], atol=1e-8)
    np.testing.assert_allclose(own @ core @ other.T, (left[:, :count] * values[:count]) @ right[:count], atol=1e-8)
    np.testing.assert_allclose(core.trace(), values[:count].sum(), rtol=1e-9)


def test_a_subspace_that_splits_equal_values_is_not_given():
    values = torch.tensor([3.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    left, _, right = torch.linalg.svd(drawn((4, 6)), full_matrices=False)
    matrix = left @ torch.diag(values) @ right
    assert leading_by_products(matrix, 2, 0.0) is None
    assert leading_by_products(matrix, 3, 0.0) is not None


@pytest.mark.parametrize("count", [0, 40])
def test_nothing_and_everything_are_left_to_eigenvectors(count):
    assert leading_by_products(drawn((40, 60)), count, 0.0) is None


def test_a_subspace_with_too_small_values_is_not_given():
    matrix = drawn((20, 30), 1e-3)
    assert leading_by_products(matrix, 10, 0.5) is None
    assert leading_by_products(matrix, 10, 1e-3) is not None


def test_a_subspace_of_deficient_rank_is_not_given():
    thin = drawn((30, 4)) @ drawn((4, 40))
    assert leading_by_products(thin, 10, NEGLIGIBLE * norm(thin)) is None


def test_the_norm_is_the_largest_singular_value():
    matrix = drawn((30, 50), 1e-3)
    assert norm(matrix) == pytest.approx(1.0, rel=1e-6)
    assert norm(torch.zeros(3, 3, dtype=torch.float64)) == 0


@pytest.mark.parametrize("shape", [(24, 24), (40, 18), (18, 40), (1, 9)])
@pytest.mark.parametrize("ranks", [None, (2, 5, 3), (0, 18, 18)])
@pytest.mark.usefixtures("products")
def test_methods_by_products_agree_with_float64(shape, ranks):
    generator = torch.Generator().manual_seed(3)

    def thin(rank: int) -> Tensor:
        sides = (torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in shape)
        return 0.01 * next(sides) @ next(sides).T

    deltas = [thin(min(*shape, rank)) for rank in ranks or (99, 99, 99)]
    arrays = [delta.numpy() for delta in deltas]
    for found, expected in [
        *zip(tsv_terms(deltas), reference.tsv(arrays, None), strict=True),
        (iso_c(deltas), reference.iso_c(arrays)),
        (iso_cts(deltas), reference.iso_cts(arrays)),
    ]:
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-6 * np.abs(expected).max(initial=1e-9))


@pytest.mark.usefixtures("products")
def test_products_are_taken_where_they_can_be(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> Tensor:
        raise AssertionError("eigenvectors of a matrix of full rank")

    monkeypatch.setattr(torch.linalg, "eigh", refused)
    deltas = [0.01 * drawn((24, 40)), 0.02 * drawn((40, 24)).T]
    assert torch.isfinite(sum(tsv_terms(deltas)) + iso_c(deltas) + iso_cts(deltas)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(512, 512), (384, 1300), (1300, 384)])
def test_a_gpu_prepares_what_a_cpu_does(shape):
    deltas = [0.002 * drawn(shape), 0.003 * drawn(shape[::-1]).T]
    for method in (tsv_terms, iso_c, iso_cts):
        for one, other in zip(method(deltas), method([delta.cuda() for delta in deltas]), strict=True):
            torch.testing.assert_close(one, other.cpu(), rtol=0, atol=1e-5 * float(one.abs().max()))
