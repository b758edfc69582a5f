"""nuslerp, multislerp and karcher: worked by hand, against float64, and where directions are parallel or cancel out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evovlm.system.errors import UnfitValues
from tests.float64_reference import merge as reference
from tests.methods.merging import Models, make_models, merge, same_bits
from tests.parameters import slow_but

NUSLERP = [{"flatten": flatten, "row_wise": row_wise} for flatten in (True, False) for row_wise in (True, False)]
OPTIONS = [
    *(("nuslerp", own) for own in NUSLERP),
    *(
        ("multislerp", {"normalize_weights": normalize, "eps": eps})
        for normalize in (True, False)
        for eps in (1e-8, 1e-3)
    ),
    *(("karcher", own) for own in ({}, {"max_iter": 0}, {"max_iter": 2, "tol": 1e-3})),
]
METHODS = ["nuslerp", "multislerp", "karcher"]
RIGHT_ANGLE = (torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))


def models_of(*sources: torch.Tensor, base: torch.Tensor | None = None) -> Models:
    return Models(torch.zeros_like(sources[0]) if base is None else base, sources)


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("shape", [(12, 20), (97,), (3, 5, 7), (1, 6), ()])
@pytest.mark.parametrize(("method", "own"), OPTIONS)
def test_float32_agrees_with_float64(method: str, own: dict[str, float], shape: tuple[int, ...], with_base: bool):
    models = make_models(shape, 2 if method == "nuslerp" else 3)
    weights = (0.7, 0.45, 0.2)[: len(models.sources)]
    base = models.base.double().numpy() if with_base and method != "karcher" else None
    sources = [tensor.double().numpy() for tensor in models.sources]
    nothing = [None] * len(sources)
    expected = reference(method, base, sources, weights, nothing, [1.0] * 3, normalize=False, rescale="none", **own)
    merged = merge(method, models, weights=weights, own=own, with_base=with_base).double().numpy()
    assert np.linalg.norm(merged - expected.merged) <= 1e-6 * np.linalg.norm(expected.merged)


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", slow_but([1, 7, 64, 10**6], [7]))
@pytest.mark.parametrize("own", NUSLERP)
def test_no_bit_of_rows_and_columns_depends_on_the_chunk_size(
    own: dict[str, bool], chunk: int, dtype: torch.dtype, with_base: bool
):
    models = make_models((31, 23), 2, dtype=dtype)
    out = torch.empty(31, 23)
    whole = merge("nuslerp", models, own=own, with_base=with_base)
    assert same_bits(merge("nuslerp", models, own=own, with_base=with_base, chunk=chunk), whole)
    assert torch.equal(merge("nuslerp", models, own=own, with_base=with_base, chunk=chunk, out=out), whole.float())


def test_a_third_of_a_right_angle():
    weights = (2.0, 1.0)
    expected = [2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)]
    assert merge("nuslerp", models_of(*RIGHT_ANGLE), weights=weights).tolist() == pytest.approx(expected, rel=1e-6)
    # With a base the task vectors turn: they are those of the first case.
    base = torch.tensor([1.0, -3.0])
    moved = models_of(*(tensor + base for tensor in RIGHT_ANGLE), base=base)
    expected = [1.0 + expected[0], -3.0 + expected[1]]
    assert merge("nuslerp", moved, weights=weights, with_base=True).tolist() == pytest.approx(expected, rel=1e-6)


def test_rows_and_columns_turn_by_themselves():
    """By hand, with t = 1/2: parallel rows are averaged, and those at right angles are multiplied by sqrt(1/2)."""
    first, second = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [3.0, 3.0]])
    half, models = math.sqrt(0.5), models_of(first, second)
    rows = merge("nuslerp", models, weights=(1.0, 1.0), own={"flatten": False})
    assert rows.flatten().tolist() == pytest.approx([half, half, 2.0, 2.0], rel=1e-6)
    turned = models_of(first.T.contiguous(), second.T.contiguous())
    columns = merge("nuslerp", turned, weights=(1.0, 1.0), own={"flatten": False, "row_wise": True})
    assert same_bits(columns.T.contiguous(), rows)


@pytest.mark.parametrize("method", METHODS)
def test_the_middle_of_a_right_angle(method: str):
    found = merge(method, models_of(*RIGHT_ANGLE), weights=(1.0, 1.0))
    assert found.tolist() == pytest.approx([math.sqrt(2), math.sqrt(2)], rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_base", [True, False])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), weights=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)))
def test_equal_sources_give_the_source(method: str, with_base: bool, seed: int, weights: tuple[float, float]):
    models = make_models((7, 9), 1, seed=seed)
    same = Models(models.base, models.sources * 2)
    merged = merge(method, same, weights=weights, with_base=with_base)
    assert float((merged - models.sources[0]).norm()) <= 1e-6 * float(models.sources[0].norm())


@pytest.mark.parametrize("method", ["multislerp", "karcher"])
@settings(max_examples=20, deadline=None)
@given(order=st.permutations([0, 1, 2]), seed=st.integers(0, 10**6))
def test_the_order_of_sources_changes_only_rounding(method: str, order: list[int], seed: int):
    models, weights = make_models((7, 9), 3, seed=seed), (0.7, 0.45, 0.2)
    turned = Models(models.base, tuple(models.sources[index] for index in order))
    merged = merge(method, models, weights=weights)
    other = merge(method, turned, weights=[weights[index] for index in order])
    assert float((merged - other).norm()) <= 1e-6 * float(merged.norm())


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 10**6))
def test_nuslerp_from_the_other_side_is_the_same(share: float, seed: int):
    models = make_models((7, 9), 2, seed=seed)
    back = Models(models.base, models.sources[::-1])
    merged = merge("nuslerp", models, weights=(1 - share, share))
    assert float((merged - merge("nuslerp", back, weights=(share, 1 - share))).norm()) <= 1e-6 * float(merged.norm())


def test_lengths_are_averaged_and_a_zero_source_shortens_the_mean():
    first, second = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    zero = torch.zeros(2)
    assert float(merge("multislerp", models_of(first, second), weights=(1.0, 1.0)).norm()) == pytest.approx(2.0)
    assert float(merge("karcher", models_of(first, second)).norm()) == pytest.approx(2.0)
    assert merge("karcher", models_of(first, zero, zero)).tolist() == pytest.approx([1.0, 0.0], abs=1e-7)
    assert merge("karcher", models_of(zero, zero)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", ["multislerp", "karcher"])
def test_a_single_source_is_copied_whatever_its_weight(method: str):
    models = make_models(sources=1, dtype=torch.bfloat16)
    assert same_bits(merge(method, models, weights=(-0.3,), with_base=True), models.sources[0])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", ["nuslerp", "multislerp"])
def test_task_vectors_that_are_zero_give_the_base(method: str, count: int):
    models = make_models()
    still = Models(models.base, (models.base,) * count)
    assert torch.equal(merge(method, still, weights=(0.7, 0.4, 0.3), with_base=True), models.base)


def test_opposite_directions_are_averaged_by_pairs_and_have_no_mean_among_three():
    tensor = make_models().base
    opposite = models_of(tensor, -tensor)
    assert torch.allclose(merge("nuslerp", opposite, weights=(3.0, 1.0)), 0.5 * tensor, rtol=1e-6)
    assert float(merge("multislerp", opposite, weights=(1.0, 1.0)).norm()) == 0.0
    assert float((merge("karcher", opposite) - tensor).norm()) <= 1e-6 * float(tensor.norm())
    with pytest.raises(UnfitValues, match="cancel out"):
        merge("multislerp", models_of(tensor, -tensor, torch.zeros_like(tensor)), weights=(1.0, 1.0, 1.0))


def test_weights_that_sum_to_0():
    models = make_models()
    halfway = merge("nuslerp", models, weights=(1.0, 1.0))
    assert same_bits(merge("nuslerp", models, weights=(1.0, -1.0)), halfway)
    with pytest.raises(UnfitValues, match="sum to 0"):
        merge("multislerp", models, weights=(1.0, -1.0))
    assert torch.equal(
        merge("multislerp", models, weights=(0.0, 0.0), own={"normalize_weights": False}, with_base=True), models.base
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("own", [{}, {"flatten": False}, {"flatten": False, "row_wise": True}])
def test_what_is_not_finite_stays_visible(method: str, bad: float, own: dict[str, bool]):
    models = make_models()
    models.sources[0][3, 4] = bad
    assert not bool(torch.isfinite(merge(method, models, own=own if method == "nuslerp" else {})).all())
