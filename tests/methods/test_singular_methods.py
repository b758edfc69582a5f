"""TSV-M, Iso-C, Iso-CTS, KnOTS-TIES and WUDI: against NumPy in float64, on full and deficient ranks, and by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from evovlm.methods import Operand, merge_tensor, resolve_options
from evovlm.methods.draws import Draws
from evovlm.methods.isotropic import iso_c, iso_cts
from evovlm.methods.knots import knots_ties
from evovlm.methods.tsv import tsv_terms
from evovlm.methods.wudi import wudi
from tests import float64_reference as reference
from tests.methods.merging import make_models, merge

ONE_MATRIX = {
    "iso_c": (iso_c, reference.iso_c),
    "iso_cts": (iso_cts, reference.iso_cts),
    "knots_ties": (knots_ties, reference.knots_ties),
    "wudi": (wudi, reference.wudi),
}
SHAPES = [(24, 24), (40, 17), (17, 40), (1, 9), (9, 1), (1, 1)]


def full(shape: tuple[int, ...], count: int = 3, scale: float = 0.01) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [scale * torch.randn(shape, generator=generator) for _ in range(count)]


def low_rank(shape: tuple[int, int], ranks: Sequence[int]) -> list[Tensor]:
    """Products of two thin factors, as exact as float64 has them."""
    generator = torch.Generator().manual_seed(11)
    return [
        0.01
        * torch.randn(shape[0], rank, generator=generator, dtype=torch.float64)
        @ torch.randn(rank, shape[1], generator=generator, dtype=torch.float64)
        for rank in ranks
    ]


def assert_close(found: Tensor, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    """Within a share of the largest element."""
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert np.abs(found.double().numpy() - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=1e-9)


def assert_terms_agree(deltas: Sequence[Tensor], rank_share: float = 0.0) -> None:
    found = tsv_terms(deltas, rank_share=rank_share)
    expected = reference.tsv([delta.double().numpy() for delta in deltas], rank_share or None)
    assert len(found) == len(expected) == len(deltas)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tsv_agrees_with_float64_on_full_rank(shape, count):
    assert_terms_agree(full(shape, count))


@pytest.mark.parametrize("rank_share", [1 / 3, 0.1, 0.5, 1.0])
def test_tsv_agrees_with_float64_for_each_rank_share(rank_share):
    assert_terms_agree(full((18, 30)), rank_share)


def test_tsv_drops_what_a_deficient_rank_leaves_arbitrary():
    deltas = low_rank((20, 32), [2, 4, 3])
    assert_terms_agree(deltas)
    assert [int(torch.linalg.matrix_rank(term, rtol=1e-4)) for term in tsv_terms(deltas)] == [2, 4, 3]


@pytest.mark.parametrize("name", sorted(ONE_MATRIX))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_agrees_with_float64_on_full_rank(name, shape, count):
    method, expected = ONE_MATRIX[name]
    deltas = full(shape, count)
    assert_close(method(deltas), expected([delta.double().numpy() for delta in deltas]))


@pytest.mark.parametrize("name", sorted(ONE_MATRIX))
@pytest.mark.parametrize("ranks", [(2, 3), (4, 4, 1)])
def test_agrees_with_float64_on_deficient_rank(name, ranks):
    method, expected = ONE_MATRIX[name]
    deltas = low_rank((20, 32), ranks)
    assert_close(method(deltas), expected([delta.numpy() for delta in deltas]))


@pytest.mark.parametrize("name", sorted(ONE_MATRIX))
def test_agrees_with_float64_beside_a_source_that_equals_the_base(name):
    method, expected = ONE_MATRIX[name]
    deltas = [*full((16, 24), 2), torch.zeros(16, 24)]
    assert_close(method(deltas), expected([delta.double().numpy() for delta in deltas]))


def test_tsv_gives_a_source_that_equals_the_base_no_term_but_counts_it():
    first, second = full((16, 24), 2)
    deltas = [first, torch.zeros(16, 24), second]
    assert_terms_agree(deltas)
    terms = tsv_terms(deltas)
    assert not terms[1].any()
    assert int(torch.linalg.matrix_rank(terms[0], rtol=1e-4)) == 16 // 3


@pytest.mark.parametrize("name", sorted(ONE_MATRIX))
def test_zero_task_vectors_merge_to_zero(name):
    assert not ONE_MATRIX[name][0]([torch.zeros(5, 4)] * 2).any()
    assert not any(term.any() for term in tsv_terms([torch.zeros(5, 4)] * 2))


@pytest.mark.parametrize("name", sorted(ONE_MATRIX))
def test_other_tensors_than_matrices_are_averaged(name):
    for deltas in (full((7,)), full((3, 4, 5))):
        mean = sum(delta.double() for delta in deltas) / 3
        torch.testing.assert_close(ONE_MATRIX[name][0](deltas), mean.float())
        torch.testing.assert_close(tsv_terms(deltas)[1], deltas[1] / 3)


METHOD_NAMES = ["tsv_m", *sorted(ONE_MATRIX)]


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_tensor_that_is_not_to_be_decomposed_is_averaged(name):
    models = make_models((6, 8), 3)
    options = replace(resolve_options(name, None, None, 0.5, 0.15, 0.01), averaged=True)
    operands = [Operand(tensor, 1.0, 1.0, Draws(0, "a", "w")) for tensor in models.sources]
    merged = merge_tensor(name, models.base, operands, options, dtype=torch.float32)
    expected = models.base + 0.5 * sum(tensor - models.base for tensor in models.sources) / 3
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_the_method_adds_lambda_times_the_merged_task_vector(name):
    models = make_models((14, 9), 3)
    deltas = [tensor - models.base for tensor in models.sources]
    whole = sum(tsv_terms(deltas)) if name == "tsv_m" else ONE_MATRIX[name][0](deltas)
    merged = merge(name, models, weights=(1.0, 1.0, 1.0), lambda_=0.7)
    torch.testing.assert_close(merged, models.base + 0.7 * whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_what_is_not_finite_stays_so(name):
    models = make_models((14, 9), 2)
    models.sources[1][3, 4] = torch.inf
    assert not bool(torch.isfinite(merge(name, models)).all())


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_no_bit_depends_on_torchs_threads(name):
    models = make_models((130, 170), 2)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(merge(name, models))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,)])
def test_empty_tensors_stay_empty(shape):
    for method, _ in ONE_MATRIX.values():
        assert method([torch.empty(shape)] * 2).shape == shape
    assert [term.shape for term in tsv_terms([torch.empty(shape)] * 2)] == [shape] * 2


def test_tsv_of_one_source_is_its_task_vector():
    (delta,) = full((12, 20), 1)
    torch.testing.assert_close(tsv_terms([delta])[0], delta, rtol=1e-5, atol=1e-8)


def test_tsv_keeps_orthogonal_task_vectors_as_they_are():
    """Worked by hand: two task vectors of rank 1 that share no direction do not disturb each other."""
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[0, 1], second[2, 3] = 3.0, -2.0
    terms = tsv_terms([first, second])
    torch.testing.assert_close(terms[0], first)
    torch.testing.assert_close(terms[1], second)


def test_tsv_of_two_equal_task_vectors_halves_them():
    """Their vectors span one direction each, so the polar factors are U / sqrt(2), and a half of each is left."""
    delta = full((10, 10), 1)[0]
    terms = tsv_terms([delta, delta])
    kept = reference.tsv([delta.double().numpy()], 0.5)[0]
    assert_close(terms[0] + terms[1], kept)
    torch.testing.assert_close(terms[0], terms[1])


@pytest.mark.parametrize("weights", [(2.0, 0.5), (-1.5, 0.25)])
def test_weighting_the_terms_is_weighting_the_task_vectors(weights):
    deltas = full((14, 22), 2)
    scaled = tsv_terms([weight * delta for weight, delta in zip(weights, deltas, strict=True)])
    for term, weight, other in zip(tsv_terms(deltas), weights, scaled, strict=True):
        torch.testing.assert_close(weight * term, other, rtol=1e-4, atol=1e-7)


def test_iso_c_has_equal_singular_values():
    values = torch.linalg.svdvals(iso_c(full((15, 25))))
    expected = torch.linalg.svdvals(sum(full((15, 25)))).mean()
    torch.testing.assert_close(values, expected.expand(15), rtol=1e-5, atol=0)


def test_iso_cts_of_one_source_is_iso_c():
    torch.testing.assert_close(iso_cts(full((15, 25), 1)), iso_c(full((15, 25), 1)), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("common_share", [0.0, 0.5, 1.0])
def test_iso_cts_agrees_with_float64_for_each_common_share(common_share):
    deltas = full((20, 12))
    assert_close(
        iso_cts(deltas, common_share=common_share),
        reference.iso_cts([d.double().numpy() for d in deltas], common_share),
    )


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.75])
def test_knots_trims_as_in_float64(keep):
    deltas = full((12, 18))
    assert_close(knots_ties(deltas, keep=keep), reference.knots_ties([d.double().numpy() for d in deltas], keep))


def test_knots_of_one_source_is_its_task_vector():
    (delta,) = full((12, 20), 1)
    torch.testing.assert_close(knots_ties([delta]), delta, rtol=1e-5, atol=1e-8)


def test_wudi_moves_no_element_by_more_than_its_steps():
    deltas = full((12, 20), scale=0.1)
    moved = (wudi(deltas, steps=50, rate=1e-4) - sum(deltas)).abs()
    assert 0 < float(moved.max()) < 1.5 * 50 * 1e-4


def test_wudi_lowers_the_loss_that_it_minimises():
    deltas = full((12, 20), scale=0.1)

    def loss(merged: Tensor) -> float:
        return sum(float(((merged - d) @ d.T).square().sum() / d.square().sum()) for d in deltas)

    assert loss(wudi(deltas, rate=1e-3)) < 0.5 * loss(sum(deltas))


@pytest.mark.parametrize("name", ["tsv", *sorted(ONE_MATRIX)])
def test_the_same_bits_come_out_again(name):
    deltas = full((33, 21))
    merge = tsv_terms if name == "tsv" else ONE_MATRIX[name][0]
    assert torch.equal(torch.as_tensor(merge(deltas)[0]), torch.as_tensor(merge(deltas)[0]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(512, 512), (384, 1300), (1300, 384)])
@pytest.mark.parametrize("merge", [tsv_terms, iso_c, iso_cts])
def test_a_gpu_prepares_what_a_cpu_does(merge, shape):
    generator = torch.Generator().manual_seed(5)
    deltas = [0.002 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    for here, there in zip(merge(deltas), merge([delta.cuda() for delta in deltas]), strict=True):
        torch.testing.assert_close(here, there.cpu(), rtol=0, atol=1e-5 * float(here.abs().max()))
