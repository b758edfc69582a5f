"""The merge methods, worked by hand, and what they refuse."""

import math

import pytest
import torch

from evovlm.methods import METHODS, MergeOptions, Operand, merge_tensor, resolve_options
from evovlm.methods.draws import Draws
from evovlm.system.errors import RecipeError
from tests.methods.merging import Models, merge


def test_what_is_kept_by_its_own_probability_is_right_on_average():
    """By hand: p of a row of three is 0.3, 0.5 and 0.7; without `per_element` the smallest comes to 0.6 of itself."""
    base, source = torch.zeros(20_000, 3), torch.tensor([1.0, 2.0, 3.0]).repeat(20_000, 1)
    models = Models(base, (source,))
    told = {"weights": (1.0,), "densities": (0.5,), "epsilon": 0.2, "normalize": False}
    found = merge("della_linear", models, rescale="per_element", **told).mean(dim=0).tolist()
    assert found == pytest.approx([1.0, 2.0, 3.0], rel=0.03)
    assert merge("della_linear", models, rescale="inverse", **told).mean(dim=0)[0] == pytest.approx(0.6, rel=0.03)


def by_hand(name, base, sources, weights, **options):
    operands = [
        Operand(torch.tensor(values), weight, 1.0, Draws(0, "a", "w"))
        for values, weight in zip(sources, weights, strict=True)
    ]
    root = None if base is None else torch.tensor(base)
    return merge_tensor(name, root, operands, MergeOptions(**options), dtype=torch.float32).tolist()


def test_task_arithmetic_adds_weighted_differences():
    assert by_hand("task_arithmetic", [1.0, 2.0], [[2.0, 2.0], [1.0, 6.0]], [0.5, 0.25]) == [1.5, 3.0]


def test_ties_elects_by_mass_and_divides_by_the_weights_kept():
    # V: 3, -1, -1: mass elects plus, a vote would elect minus. One term of weight 1 is kept.
    sources = [[3.0], [-1.0], [-1.0]]
    assert by_hand("ties", [0.0], sources, [1.0, 1.0, 1.0], normalize=True) == [3.0]
    # V: 1, 2 and 0: a term that is zero has no sign, so its weight does not count.
    assert by_hand("ties", [0.0], [[2.0], [8.0], [0.0]], [0.5, 0.25, 0.25], normalize=True) == [4.0]


def test_a_sign_tie_elects_plus():
    assert by_hand("ties", [10.0], [[12.0], [8.0]], [1.0, 1.0]) == [12.0]


def test_weights_kept_that_cancel_count_as_one():
    # V = 1 and 1 from weights 1 and -1: both positive, their weights sum to 0.
    assert by_hand("ties", [0.0], [[1.0], [-1.0]], [1.0, -1.0], normalize=True) == [2.0]
    assert by_hand("task_arithmetic", [0.0], [[3.0], [1.0]], [1.0, -1.0], normalize=True) == [2.0]


@pytest.mark.parametrize("method", ["task_arithmetic", "linear"])
def test_weights_that_add_up_to_less_than_nothing_are_divided_by_their_sum(method):
    """By hand: (3 * 1 + 1 * -3) / -2 = 0, and (4 * 1 - 3 * 2) / -2 = 1."""
    assert by_hand(method, [0.0], [[3.0], [1.0]], [1.0, -3.0], normalize=True) == [0.0]
    assert by_hand(method, [0.0], [[4.0], [2.0]], [1.0, -3.0], normalize=True) == [1.0]


def test_lambda_scales_what_is_added():
    assert by_hand("task_arithmetic", [1.0], [[3.0]], [1.0], lambda_=0.25) == [1.5]


def test_linear_is_a_weighted_mean():
    assert by_hand("linear", None, [[1.0], [5.0]], [3.0, 1.0], normalize=True) == [2.0]
    assert by_hand("linear", None, [[1.0], [5.0]], [3.0, 1.0], normalize=False) == [8.0]


def test_slerp_halves_a_right_angle():
    found = by_hand("slerp", None, [[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    assert found == pytest.approx([math.sqrt(0.5), math.sqrt(0.5)], rel=1e-7)


def test_slerp_turns_a_third_of_a_right_angle():
    found = by_hand("slerp", None, [[2.0, 0.0], [0.0, 2.0]], [2.0, 1.0])
    assert found == pytest.approx([2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)], rel=1e-6)


def test_slerp_of_parallel_tensors_is_linear():
    assert by_hand("slerp", None, [[1.0, 1.0], [3.0, 3.0]], [1.0, 1.0]) == [2.0, 2.0]


def test_model_stock_of_equal_task_vectors_goes_all_the_way_and_of_orthogonal_ones_nowhere():
    assert by_hand("model_stock", [1.0, 1.0], [[2.0, 3.0], [2.0, 3.0]], [1.0, 1.0]) == pytest.approx([2.0, 3.0])
    assert by_hand("model_stock", [1.0, 1.0], [[2.0, 1.0], [1.0, 2.0]], [1.0, 1.0]) == [1.0, 1.0]
    # 60 degrees: cos = 1/2, t = 2/3 for two sources.
    sources = [[1.0, 0.0], [0.5, math.sqrt(0.75)]]
    found = by_hand("model_stock", [0.0, 0.0], sources, [1.0, 1.0])
    assert found == pytest.approx([0.5, math.sqrt(0.75) / 3], rel=1e-6)


def test_a_source_is_rounded_to_the_bases_dtype_first():
    base, source = torch.tensor([1.0]).bfloat16(), torch.tensor([1.0001])
    operand = Operand(source, 1.0, 1.0, Draws(0, "a", "w"))
    merged = merge_tensor("task_arithmetic", base, [operand], MergeOptions(), dtype=torch.float32)
    assert merged.tolist() == [1.0]


def test_an_unknown_method_is_told_its_choices():
    with pytest.raises(RecipeError, match=r"'dare_tie'.*'dare_ties'"):
        resolve_options("dare_tie", None, None, 1.0, 0.15, 0.01)


@pytest.mark.parametrize("name", sorted(name for name, found in METHODS.items() if found.needs_base))
def test_task_vectors_need_a_base(name):
    operand = Operand(torch.ones(2), 1.0, 1.0, Draws(0, "a", "w"))
    with pytest.raises(RecipeError, match="base"):
        merge_tensor(name, None, [operand], MergeOptions(), dtype=torch.float32)


@pytest.mark.parametrize(
    ("name", "sources", "weights", "said"),
    [
        ("slerp", [[1.0]], [1.0], "exactly two"),
        ("slerp", [[1.0], [2.0]], [1.0, -1.0], "sum to 0"),
        ("linear", [[1.0], [2.0]], [0.0, 0.0], "sum to 0"),
        ("model_stock", [[1.0]], [1.0], "at least two"),
        ("passthrough", [[1.0], [2.0]], [1.0, 1.0], "one source"),
        ("ties", [[1.0], [2.0, 3.0]], [1.0, 1.0], "shapes differ"),
        ("linear", [], [], "nothing to merge"),
    ],
)
def test_what_cannot_be_merged_is_refused(name, sources, weights, said):
    with pytest.raises(RecipeError, match=said):
        by_hand(name, [1.0], sources, weights, normalize=True)
