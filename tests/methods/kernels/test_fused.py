"""The fused pass gives the CPU's bits, by Triton's interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.methods.kernels import fused_methods
from tests.methods.kernels.fusing import fuse
from tests.methods.merging import Models, make_models, merge, same_bits

# The interpreter cuts float32 off on the way to bfloat16, where GPUs round: there, results are compared in float32.
ON_GPU = torch.cuda.is_available()
RESULTS = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("method", fused_methods())
def test_gives_the_bits_of_the_cpu(method, stored, result):
    models = make_models((13, 17), 3, dtype=stored)
    found, fault = fuse(method, models, dtype=result)
    assert same_bits(found, merge(method, models, dtype=result))
    assert not fault


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescale", ["l1", "inverse", "none"])
@pytest.mark.parametrize("method", fused_methods())
def test_follows_the_options(method, rescale, normalize):
    if method.startswith("breadcrumbs") and rescale == "l1":
        pytest.skip("masks are made before the pass: see test_masks.py")
    models = make_models((9, 17), 2, dtype=torch.bfloat16)
    told = {"normalize": normalize, "rescale": rescale, "lambda_": 0.7, "dtype": torch.float32}
    assert same_bits(fuse(method, models, **told)[0], merge(method, models, **told))


@pytest.mark.parametrize("densities", [(0.0, 1.0), (1e-6, 0.999999), (0.5, 0.03)])
@pytest.mark.parametrize("method", ["dare_ties", "ties", "magnitude", "breadcrumbs"])
def test_takes_densities_at_the_edges(method, densities):
    models = make_models((23, 11), 2, dtype=torch.bfloat16)
    rescale = "inverse" if method == "breadcrumbs" else "l1"
    told = {"densities": densities, "dtype": torch.float32, "rescale": rescale}
    assert same_bits(fuse(method, models, **told)[0], merge(method, models, **told))


@pytest.mark.parametrize("count", [1, 7, 8, 127, 128, 129, 1000])
def test_any_number_of_elements_is_written(count):
    models = make_models((count,), 2)
    assert same_bits(fuse("dare_ties", models)[0], merge("dare_ties", models))


@pytest.mark.parametrize("sources", [1, 2, 4, 6])
def test_any_number_of_sources_is_added_in_order(sources):
    models = make_models((8, 40), sources)
    told = {"weights": (0.5, -0.3, 0.9, 0.2, 0.4, 0.1)[:sources], "densities": (0.5,) * sources}
    names = {"names": "abcdef"}
    for method in ("dare_ties", "dare_linear", "linear"):
        assert same_bits(fuse(method, models, **told)[0], merge(method, models, **told, **names))


# The base is never bfloat16 here: see RESULTS.
@pytest.mark.parametrize("stored", [torch.float16, torch.float32, *([torch.bfloat16] if ON_GPU else [])])
@pytest.mark.parametrize("method", ["dare_ties", "linear", "model_stock"])
def test_sources_of_several_dtypes_are_rounded_as_the_method_defines(method, stored):
    models = make_models((11, 24), 3, dtype=torch.float32)
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    sources = tuple(source.to(dtype) for source, dtype in zip(models.sources, dtypes, strict=True))
    mixed = Models(models.base.to(stored), sources)
    assert same_bits(fuse(method, mixed, dtype=torch.float32)[0], merge(method, mixed, dtype=torch.float32))


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
def test_a_window_of_magnitudes_ends_where_the_cpus_does(method, gamma):
    models = make_models((40, 33), 2, dtype=torch.bfloat16)  # with many equal magnitudes
    told = {"gamma": gamma, "densities": (0.5, 0.2), "dtype": torch.float32}
    assert same_bits(fuse(method, models, **told)[0], merge(method, models, **told))


# The first program is full, so that quotients are computed from reciprocals; the last one divides.
LONGER = (8, 40)


@pytest.mark.parametrize("lambda_", [1.0, 0.7])
@pytest.mark.parametrize(
    "weights", [(0.7,), (0.6, 0.55), (0.7, 0.45, -0.2), (0.1, 0.2, 0.3, 0.4), (1e-7, 0.6), (0.5, -0.5)]
)
def test_normalised_sums_with_elected_signs_are_rounded_as_division_does(weights, lambda_):
    models = make_models(LONGER, len(weights), dtype=torch.bfloat16)
    told = {
        "weights": weights,
        "densities": (0.5,) * len(weights),
        "normalize": True,
        "rescale": "inverse",
        "lambda_": lambda_,
        "dtype": torch.float32,
    }
    found, fault = fuse("ties", models, **told)
    assert same_bits(found, merge("ties", models, **told, names="abcdef"))
    assert not fault


def test_tiny_and_huge_numerators_are_divided_exactly():
    models = make_models(LONGER, 2, dtype=torch.float32)
    zero = torch.zeros_like(models.base)
    scales = torch.logspace(-35, 17, zero.numel(), dtype=torch.float64).float().view_as(zero)
    spread = Models(zero, tuple((source - models.base) * scales for source in models.sources))
    told = {"weights": (0.6, 0.55), "densities": (1.0, 1.0), "dtype": torch.float32}
    assert same_bits(fuse("ties", spread, **told)[0], merge("ties", spread, **told))


def test_sources_that_are_nearly_parallel_are_interpolated_linearly():
    models = make_models((6, 32), 1)
    close = Models(models.base, (models.sources[0], models.sources[0] * 1.25))
    assert same_bits(fuse("slerp", close)[0], merge("slerp", close))


def test_sources_of_a_tuned_zero_merge_to_the_base():
    base = make_models((5, 16), 1).base
    models = Models(base, (base.clone(), base.clone()))
    for method in ("dare_ties", "ties", "magnitude", "task_arithmetic", "breadcrumbs", "model_stock"):
        assert same_bits(fuse(method, models)[0], merge(method, models))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_is_told(bad):
    models = make_models((6, 50), 2)
    models.sources[0][3, 20] = bad
    found, fault = fuse("task_arithmetic", models)
    assert fault
    assert int(torch.isfinite(found).logical_not().sum()) == 1


def test_rounding_to_float16_that_overflows_is_told():
    models = make_models((4, 8), 2)
    models.sources[1][0, 0] = 3e5
    assert fuse("task_arithmetic", models, dtype=torch.float16)[1]
    assert not fuse("task_arithmetic", models, dtype=torch.float32)[1]


def test_values_are_rounded_as_stored_whatever_the_live_dtype():
    models = make_models((7, 24), 2)
    live, _ = fuse("dare_linear", models, dtype=torch.float16, out=torch.float32)
    assert torch.equal(live, merge("dare_linear", models, dtype=torch.float16).float())
