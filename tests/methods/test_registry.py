"""Methods with options of their own, and methods that prepare task vectors once."""

import pytest
import torch
from pydantic import Field

from evovlm.methods import METHODS, OwnOptions, Tables, method, prepared_method, resolve_options, vector_dtype
from evovlm.methods.options import SHARED
from evovlm.system.errors import RecipeError
from tests.methods.merging import Models, make_models, merge, same_bits


class Share(OwnOptions):
    share: float = Field(default=0.5, ge=0.0, le=1.0, description="how much of each task vector is used")


@pytest.fixture(autouse=True)
def _rows_of_this_test_go():
    rows = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(rows)


@pytest.fixture
def calls() -> list[OwnOptions | None]:
    """The own options of each call of `part`, a method that prepares a share of every task vector."""
    found: list[OwnOptions | None] = []

    @prepared_method("part", options=Share)
    def part(base, sources, options):
        """Use a share of every task vector."""
        found.append(options)
        return [options.share * (source - base) for source in sources]

    return found


def test_every_method_of_this_package_says_what_it_does_where_it_is_from_and_what_it_costs():
    for row in METHODS.values():
        assert row.doc
        assert row.source
        assert row.cost
        assert "\n" not in row.doc + row.source + row.cost
        assert set(row.uses) <= set(SHARED)


def test_a_functions_first_line_is_what_the_method_does():
    @method("half")
    def half(base, sources, options):
        """Go half the way.

        Not further.
        """
        return base

    assert METHODS["half"].doc == "Go half the way"


def test_a_function_gets_its_own_options_with_defaults_filled_in():
    @method("some", options=Share)
    def some(base, sources, options):
        return base + options.own.share * (sources[0].tensor - base)

    models = make_models(sources=1)
    assert torch.equal(merge("some", models), models.base + 0.5 * (models.sources[0] - models.base))
    assert torch.equal(merge("some", models, own={"share": 1}), models.base + (models.sources[0] - models.base))


@pytest.mark.parametrize(
    ("name", "own", "told"),
    [
        (
            "part",
            {"share": 2.0},
            r"options.share: Input should be less .* to 1; part's own options are \['share'\]",
        ),
        (
            "part",
            {"shares": 1.0},
            r"options.shares: Extra inputs .*; part's own options are \['share'\]",
        ),
        ("ties", {"share": 1.0}, r"options: ties has no options of its own, so remove \['share'\]"),
    ],
)
def test_options_that_a_method_does_not_take_are_refused(calls, name: str, own: dict[str, float], told: str):
    with pytest.raises(RecipeError, match=told):
        resolve_options(name, None, None, 1.0, 0.15, 0.01, own)


SHARED_OPTIONS = [{}, {"normalize": True}, {"lambda_": 0.3}, {"weights": (0.0, -0.0, 0.0)}]


@pytest.mark.parametrize("shared", SHARED_OPTIONS)
def test_prepared_task_vectors_are_summed_to_the_bit_as_in_task_arithmetic(calls, shared):
    models = make_models((31, 23), 3)
    merged = merge("part", models, own={"share": 1.0}, chunk=100, **shared)
    assert same_bits(merged, merge("task_arithmetic", models, **shared))


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("shared", SHARED_OPTIONS)
def test_beside_a_base_of_16_bits_they_are_rounded_to_its_dtype_first(calls, dtype, most, shared):
    models = make_models((31, 23), 3, dtype=dtype)
    wide = models.base.float()
    vectors = [(tensor.float() - wide).to(dtype) for tensor in models.sources]
    for vector, tensor in zip(vectors, models.sources, strict=True):
        delta = tensor.float() - wide
        assert bool(((vector.float() - delta).abs() <= most * delta.abs() + 3e-8).all())
    merged = merge("part", models, own={"share": 1.0}, chunk=100, **shared)
    rounded = Models(wide, tuple(wide + vector.float() for vector in vectors))
    expected = merge("task_arithmetic", rounded, **shared)
    torch.testing.assert_close(merged.float(), expected.to(dtype).float(), rtol=2 * most, atol=1e-7)


@pytest.mark.parametrize("base", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_vectors_take_the_bytes_of_a_base_of_16_bits_and_four_otherwise(calls, base):
    models, tables = make_models((9, 7), 2, dtype=base), [Tables(), Tables()]
    merge("part", models, tables=tables)
    assert all(one.prepared[1].dtype == vector_dtype(base) for one in tables if one.prepared is not None)
    assert vector_dtype(base).itemsize == min(base.itemsize, 4)


def test_a_vector_of_all_sources_stays_one_in_memory():
    prepared_method("all", one_vector=True)(lambda base, sources, options: [sources[0] - base] * 2)
    tables = [Tables(), Tables()]
    merge("all", make_models((9, 7), 2, dtype=torch.bfloat16), tables=tables)
    assert tables[0].prepared is not None
    assert tables[1].prepared is not None
    assert tables[0].prepared[1].data_ptr() == tables[1].prepared[1].data_ptr()


def test_tables_keep_what_was_prepared_for_the_same_options(calls):
    models, tables = make_models(sources=2), [Tables(), Tables()]
    for weights, share in [((1.0, 0.5), 0.5), ((0.2, 0.9), 0.5), ((0.2, 0.9), 0.25), ((0.2, 0.9), 0.5)]:
        merged = merge("part", models, weights=weights, tables=tables, own={"share": share})
        assert same_bits(merged, merge("part", models, weights=weights, own={"share": share}))
    assert len(calls) == 3 + 4  # with tables, prepared anew for each change of the options; without, always


def test_a_preparation_of_other_shapes_or_for_fewer_sources_is_refused():
    prepared_method("one")(lambda base, sources, options: [sources[0] - base])
    with pytest.raises(RecipeError, match=r"one prepared 1 task vectors; .* 2 tensors of shape \[12, 20\], one per"):
        merge("one", make_models(sources=2))
