"""The merge methods against float64, and deaf to chunks, threads and memos."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evovlm.methods import METHODS, Operand, Tables, resolve_options
from evovlm.methods._drop import keep_mask
from evovlm.methods.draws import Draws
from evovlm.methods.operand import TaskVector
from evovlm.system.errors import RecipeError
from tests.float64_reference import merge as reference
from tests.methods.merging import Models, make_models, merge, same_bits, sources_of
from tests.parameters import slow_but

TASK_VECTOR_METHODS = [name for name, method in METHODS.items() if method.needs_base and name != "model_stock"]
SUMS = [name for name in TASK_VECTOR_METHODS if METHODS[name].weighted]
DROPPING = [name for name, method in METHODS.items() if method.drop is not None]


@pytest.fixture(params=sorted(METHODS))
def method(request):
    """Every method there is."""
    return request.param


def drawn_masks(name, models, densities, options):
    """The masks that a merge would draw, in the tensors' shape."""
    masks = []
    for index, tensor in enumerate(sources_of(name, models)):
        operand = Operand(tensor, 1.0, densities[index], Draws(0, "abc"[index], "w"))
        vector = TaskVector(models.base.reshape(-1), operand, 64)
        mask = keep_mask(vector, METHODS[name].drop, options)
        masks.append(None if mask is None else mask.reshape(tensor.shape))
    return masks


def float64_result(name, models, *, normalize=None, rescale=None, weights=(0.7, 0.45, -0.2)):
    densities = (0.6, 0.35, 0.8)
    options = resolve_options(name, normalize, rescale, 1.0, 0.15, 0.01)
    masks = drawn_masks(name, models, densities, options)
    used = len(masks)
    return reference(
        name,
        models.base.double().numpy() if METHODS[name].needs_base else None,
        [tensor.double().numpy() for tensor in sources_of(name, models)],
        weights[:used],
        masks,
        densities[:used],
        normalize=options.normalize,
        rescale=options.rescale,
    )


@pytest.mark.parametrize("shape", [(12, 20), (97,), (3, 5, 7), (1,), ()])
def test_runs_on_any_shape(method, shape):
    merged = merge(method, make_models(shape, 3))
    assert merged.shape == shape
    assert bool(torch.isfinite(merged).all())


def test_empty_tensors_merge_to_empty_ones(method):
    empty = Models(torch.empty(0, 4), (torch.empty(0, 4),) * 2)
    assert merge(method, empty).shape == (0, 4)


@pytest.mark.parametrize("normalize", [None, True, False])
@pytest.mark.parametrize("rescale", ["l1", "inverse", "none"])
def test_float32_agrees_with_float64(method, normalize, rescale):
    models = make_models((40, 30), 3)
    expected = float64_result(method, models, normalize=normalize, rescale=rescale)
    merged = merge(method, models, normalize=normalize, rescale=rescale).double().numpy()
    # Next to a sign tie float32 may elect otherwise; a float32 delta carries the rounding of its operands.
    sure = expected.decisiveness > 1e-4
    assert sure.mean() > 0.99
    scale = np.abs(models.base.numpy()) + np.abs(expected.merged)
    assert (np.abs(merged - expected.merged) / scale)[sure].max() < 2e-6


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_each_element_is_divided_by_its_own_keep_probability(name, normalize):
    models = make_models((40, 30), 3)
    told = {"normalize": normalize, "rescale": "per_element"}
    expected = float64_result(name, models, **told)
    merged = merge(name, models, **told).double().numpy()
    sure = expected.decisiveness > 1e-4
    scale = np.abs(models.base.numpy()) + np.abs(expected.merged)
    assert (np.abs(merged - expected.merged) / scale)[sure].max() < 2e-6
    assert (
        np.abs(expected.merged - float64_result(name, models, normalize=normalize, rescale="inverse").merged).max()
        > 1e-3
    )
    tables = [Tables() for _ in range(3)]
    for _ in range(2):
        assert same_bits(merge(name, models, tables=tables, **told), merge(name, models, chunk=7, **told))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"della", "della_linear"}))
def test_other_methods_have_no_keep_probability_per_element(name):
    with pytest.raises(RecipeError, match=f"options.rescale: {name}'s elements .* della and della_linear only"):
        resolve_options(name, None, "per_element", 1.0, 0.15, 0.01)


def unit_in_the_last_place(values, dtype):
    """The distance of neighbouring numbers of a dtype at each of the values."""
    mantissa = {torch.bfloat16: 7, torch.float16: 10}[dtype]
    smallest = {torch.bfloat16: -126, torch.float16: -14}[dtype]
    return np.ldexp(1.0, np.maximum(np.frexp(values)[1] - 1, smallest) - mantissa)


def rounded_away(method: str, models: Models) -> np.ndarray:
    """The most that rounding prepared vectors to the base's dtype changes, for weights of at most 1."""
    wide = Models(models.base.float(), tuple(tensor.float() for tensor in models.sources))
    tables = [Tables() for _ in models.sources]
    merge(method, wide, tables=tables)
    vectors = [one.prepared[1].double().numpy() for one in tables if one.prepared is not None]
    return sum(unit_in_the_last_place(vector, models.base.dtype) / 2 for vector in vectors)


@pytest.mark.parametrize(("sources", "normalize"), [(2, None), (3, True)])
@pytest.mark.parametrize("dtype", slow_but([torch.bfloat16, torch.float16], [torch.bfloat16]))
def test_half_precision_lies_within_one_unit_in_the_last_place(method, dtype, sources, normalize):
    models = make_models((160, 160), sources, dtype=dtype)
    expected = float64_result(method, models, normalize=normalize)
    merged = merge(method, models, normalize=normalize)
    assert merged.dtype == dtype
    error = np.abs(merged.double().numpy() - expected.merged)
    # Counted apart: next to a sign tie float32 may elect otherwise; where terms cancel out, what is left is of the
    # size of their float32 roundings.
    sure = expected.decisiveness > 1e-4
    terms = sum(tensor.double().abs().numpy() for tensor in (models.base, *models.sources))
    cancelled = np.abs(expected.merged) < 2**-14 * terms
    assert (~sure).mean() < 2e-3
    assert cancelled.mean() < 5e-4
    unit = unit_in_the_last_place(expected.merged, dtype)
    limit = np.where(cancelled, np.maximum(unit, 1e-6 * terms), unit)
    if METHODS[method].prepare is not None:
        limit = limit + rounded_away(method, models)
    assert bool((error <= limit)[sure].all())


@pytest.mark.parametrize("chunk", slow_but([1, 7, 64, 1000, 10**6], [7, 1000]))
def test_no_bit_depends_on_the_chunk_size(method, chunk):
    models = make_models((31, 23), 3, dtype=torch.bfloat16)
    assert same_bits(merge(method, models, chunk=chunk), merge(method, models))


@pytest.mark.parametrize("method", slow_but(sorted(METHODS), METHODS.keys() - {"wudi"}), indirect=True)
def test_no_bit_depends_on_threads(method):
    models = make_models((300, 500), 3)
    alone = merge(method, models)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda _: merge(method, models), range(4)))
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(alone, merged) for merged in together)


@pytest.mark.parametrize("dtype", slow_but([torch.float32, torch.bfloat16], [torch.bfloat16]))
@pytest.mark.parametrize("rescale", ["l1", "inverse", "none"])
def test_tables_change_no_bit(method, dtype, rescale):
    models = make_models((37, 41), 3, dtype=dtype)
    tables = [Tables() for _ in range(3)]
    for weights, densities in (
        ((0.7, 0.45, -0.2), (0.6, 0.35, 0.8)),
        ((0.1, 0.9, 0.5), (0.05, 0.99, 1.0)),
        ((1.0, 0.0, 0.3), (0.0, 0.5, 0.5)),
    ):
        parameters = {"weights": weights, "densities": densities, "rescale": rescale}
        assert same_bits(merge(method, models, tables=tables, **parameters), merge(method, models, **parameters))


def test_the_result_may_be_written_in_place(method):
    models = make_models((40, 50), 2)
    expected = merge(method, models)
    for out in (torch.empty(40, 50), torch.empty(50, 40).T):
        assert merge(method, models, out=out, chunk=100) is out
        assert torch.equal(out, expected)
    assert torch.equal(merge(method, models, out=models.base, chunk=100), expected)


def test_a_wider_output_holds_what_the_narrow_dtype_would(method):
    models = make_models((40, 50), 2)
    out = torch.empty(40, 50)
    merge(method, models, out=out, dtype=torch.bfloat16, chunk=77)
    assert torch.equal(out, merge(method, models, dtype=torch.bfloat16).float())


def test_sources_that_are_not_contiguous_merge_alike(method):
    models = make_models((40, 50), 2)
    turned = Models(models.base.T.contiguous().T, tuple(tensor.T.contiguous().T for tensor in models.sources))
    assert same_bits(merge(method, turned), merge(method, models))


@pytest.mark.parametrize("name", SUMS)
def test_weights_of_zero_give_the_base(name):
    models = make_models(sources=3, dtype=torch.bfloat16)
    assert torch.equal(merge(name, models, weights=(0.0, 0.0, 0.0)), models.base)


@pytest.mark.parametrize("name", DROPPING)
def test_a_density_of_zero_gives_the_base(name):
    models = make_models(sources=2)
    assert torch.equal(merge(name, models, densities=(0.0, 0.0)), models.base)


@pytest.mark.parametrize("name", [name for name in TASK_VECTOR_METHODS if METHODS[name].most is None])
@settings(max_examples=10, deadline=None)
@given(order=st.permutations([0, 1, 2]), seed=st.integers(0, 5))
def test_the_order_of_sources_changes_only_rounding(name, order, seed):
    models = make_models((20, 20), 3, seed=seed)
    weights, densities, names = (0.7, 0.45, 0.2), (0.6, 0.35, 0.8), ("a", "b", "c")
    turned = Models(models.base, tuple(models.sources[index] for index in order))
    merged = merge(name, models, weights=weights, densities=densities)
    other = merge(
        name,
        turned,
        weights=[weights[index] for index in order],
        densities=[densities[index] for index in order],
        names=[names[index] for index in order],
    )
    sure = float64_result(name, models, weights=weights).decisiveness > 1e-4
    assert float((merged - other).abs().numpy()[sure].max()) < 1e-6


@pytest.mark.parametrize("name", ["dare_ties", "breadcrumbs_ties", "della"])
@settings(deadline=None)
@given(
    weights=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    normalize=st.booleans(),
    lambda_=st.floats(0.1, 2.0),
)
def test_at_density_one_all_that_elect_signs_are_ties(name, weights, normalize, lambda_):
    models = make_models()
    options = {"weights": weights, "densities": (1.0, 1.0), "normalize": normalize, "lambda_": lambda_}
    assert same_bits(merge(name, models, **options), merge("ties", models, **options))


@pytest.mark.parametrize("name", ["dare_linear", "magnitude", "della_linear", "breadcrumbs"])
def test_at_density_one_all_others_are_task_arithmetic(name):
    models, dense = make_models(), (1.0, 1.0)
    assert same_bits(merge(name, models, densities=dense), merge("task_arithmetic", models, densities=dense))


def test_magnitude_differs_from_dare_linear_in_its_mask_alone():
    models = make_models()
    options = resolve_options("magnitude", None, None, 1.0, 0.15, 0.01)
    masks = [torch.from_numpy(mask) for mask in drawn_masks("magnitude", models, (0.6, 0.35), options)]
    assert same_bits(merge("dare_linear", models, masks=masks), merge("magnitude", models))


def test_another_seed_drops_other_elements():
    models = make_models()
    assert not torch.equal(merge("dare_linear", models, seed=1), merge("dare_linear", models, seed=2))


def test_normalising_divides_instead_of_multiplying_by_a_reciprocal():
    models = make_models((50, 50))
    merged = merge("task_arithmetic", models, weights=(1.0, 2.0), normalize=True).numpy()
    base, first, second = (t.numpy() for t in (models.base, *models.sources))
    tau = ((first - base) * np.float32(1.0) + (second - base) * np.float32(2.0)) / np.float32(3.0)
    assert np.array_equal(merged, tau + base)


def test_passthrough_copies_bit_for_bit():
    models = make_models(dtype=torch.bfloat16)
    assert same_bits(merge("passthrough", models), models.sources[0])


@pytest.mark.parametrize("name", TASK_VECTOR_METHODS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("with_tables", [False, True])
def test_what_is_not_finite_stays_visible(name, bad, with_tables):
    models = make_models()
    models.sources[0][3, 4] = bad
    tables = [Tables(), Tables()] if with_tables else None
    assert not bool(torch.isfinite(merge(name, models, tables=tables)).all())


def test_gradients_are_not_recorded(method):
    models = make_models()
    base = torch.nn.Parameter(models.base)
    assert not merge(method, Models(base, models.sources)).requires_grad
    merge(method, Models(base, models.sources), out=base)
    with torch.inference_mode():
        merge(method, models)


@pytest.mark.parametrize("name", TASK_VECTOR_METHODS)
def test_zeros_have_no_sign(name):
    models = make_models()
    models.base.fill_(-0.0)
    models.sources[0].fill_(-0.0)
    models.sources[1].fill_(-0.0)
    assert same_bits(merge(name, models), torch.zeros(12, 20))


MEASURE = """
import torch
from evovlm.methods.draws import Draws
from evovlm.methods import Operand, merge_tensor, resolve_options

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def merge(method, base, sources):
    operands = [Operand(x, 0.5, 0.5, Draws(0, str(i), "w")) for i, x in enumerate(sources)]
    options = resolve_options(method, True, None, 1.0, 0.15, 0.01)
    return merge_tensor(method, base, operands, options, dtype=torch.bfloat16)

torch.set_num_threads(1)
n = 2**23
base, *sources = (torch.randn(4, n // 4096, 1024).to(torch.bfloat16) for _ in range(4))
for method in METHODS:
    merge(method, base[:1], [x[:1] for x in sources])  # libraries, scratch
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    before = status("VmRSS")
    merged = merge(method, base, sources)
    print(method, (status("VmHWM") - before) / n)
    del merged
"""


@pytest.mark.slow
def test_a_merge_takes_little_more_than_its_masks_and_its_result():
    names = ["linear", "dare_ties", "ties", "della", "breadcrumbs", "model_stock"]
    script = MEASURE.replace("METHODS", repr(names))
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    found = {line.split()[0]: float(line.split()[1]) for line in lines.splitlines()}
    assert sorted(found) == sorted(names)
    # Bytes an element: 2 of the result, 1 of each of three masks, and chunks; the float32 tensor would be 4.
    for name, taken in found.items():
        assert taken < 2 + 3 * (METHODS[name].drop is not None) + 2, name
