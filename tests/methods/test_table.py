"""The registry of methods: a row is a whole method, and what others know of methods follows from the rows."""

import pytest
import torch

from evovlm.methods import METHODS, Method, TaskVectorSum, merge_tensor, method, register, resolve_options
from evovlm.methods._whole_tensor import WholeTensor
from evovlm.methods.draws import Draws
from evovlm.methods.kernels import fused_methods, fused_sums
from evovlm.methods.operand import Operand
from evovlm.system.errors import RecipeError


@pytest.fixture(autouse=True)
def _rows_of_this_test_go():
    rows = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(rows)


def operands(count: int) -> list[Operand]:
    return [Operand(torch.tensor([1.0, 2.0]) * (n + 1), 0.5, 1.0, Draws(0, str(n), "w")) for n in range(count)]


def merge(name: str, base: torch.Tensor | None, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    options = resolve_options(name, None, None, 1.0, 0.15, 0.01)
    return merge_tensor(name, base, operands(count), options, dtype=dtype, chunk=1)


def test_a_method_without_a_rule_cannot_be_made():
    with pytest.raises(TypeError, match="rule"):
        Method("incomplete")  # type: ignore[call-arg]


def test_every_row_stands_under_its_own_name_and_says_what_its_rule_does():
    for name, row in METHODS.items():
        assert row.name == name
        if isinstance(row.rule, TaskVectorSum):
            assert (row.rule.drop, row.rule.elect, row.needs_base) == (row.drop, row.elect, True)


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="method 'ties' exists already"):
        method("ties")(lambda base, sources, options: base)


def test_a_function_is_given_float32_and_its_values_are_rounded_and_written():
    @method("furthest", fewest=2)
    def furthest(base, sources, options):
        assert base.dtype == sources[0].tensor.dtype == torch.float32
        return base + torch.stack([source.weight * (source.tensor - base) for source in sources]).amax(dim=0)

    merged = merge("furthest", torch.tensor([1.0, 1.0], dtype=torch.bfloat16), 2, torch.bfloat16)
    assert merged.dtype == torch.bfloat16
    assert merged.tolist() == [1.5, 2.5]  # 1 + 0.5 (2 - 1), 1 + 0.5 (4 - 1)


def test_a_function_that_needs_no_base_is_given_none():
    @method("first", needs_base=False)
    def first(base, sources, options):
        assert base is None
        return sources[0].tensor

    assert merge("first", torch.zeros(2), 1).tolist() == [1.0, 2.0]


def test_a_function_that_changes_the_shape_is_refused():
    method("whole", needs_base=False)(lambda base, sources, options: sources[0].tensor.sum())
    with pytest.raises(RecipeError, match=r"whole returned shape \[\] for tensors of shape \[2\]"):
        merge("whole", None, 1)


def test_too_few_and_too_many_sources_are_refused_in_words():
    method("pair", needs_base=False, fewest=1, most=2)(lambda base, sources, options: sources[0].tensor)
    with pytest.raises(RecipeError, match="pair takes 1 to 2 sources, not 3"):
        merge("pair", None, 3)


def test_the_kernels_methods_follow_from_the_registry():
    whole = {"nuslerp", "multislerp", "karcher", "sce", "nearswap", "arcee_fusion", "ram", "ramplus_tl"}
    whole |= {name for name, row in METHODS.items() if isinstance(row.rule, WholeTensor)}
    assert set(METHODS) - set(fused_methods()) == {"della", "della_linear", *whole}
    register(Method("dare_inverse", TaskVectorSum("random"), drop="random", rescale="inverse"))
    method("own", drop="random")(lambda base, sources, options: base)
    assert "dare_inverse" in fused_sums()
    assert "own" not in fused_methods()
    blends = {"linear", "model_stock", "passthrough", "slerp"}
    prepared = {name for name, row in METHODS.items() if row.prepare is not None}
    assert set(fused_methods()) - set(fused_sums()) == blends | prepared
