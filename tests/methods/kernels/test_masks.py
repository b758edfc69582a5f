"""Masks, draws and dot products made on a device are the CPU's."""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.methods import METHODS, Operand, resolve_options
from evovlm.methods._blending import dot_products as cpu_dot_products
from evovlm.methods._drop import element_factors, keep_mask, rescale_factor
from evovlm.methods.draws import Draws
from evovlm.methods.kernels.device_draws import DeviceDraws
from evovlm.methods.kernels.masks import della_mask, kept_ratio, window_mask
from evovlm.methods.kernels.products import dot_products
from evovlm.methods.kernels.tables import magnitudes_of
from evovlm.methods.operand import CHUNK, TaskVector
from tests.methods.kernels.fusing import DEVICE
from tests.methods.merging import make_models


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 4099), (5, 77), (64, 64)])
def test_draws_are_the_cpus_from_any_element_on(start: int, stop: int):
    told = (7, "ja", "model.layers.0.mlp.up_proj.weight")
    assert torch.equal(DeviceDraws(*told, DEVICE).take(start, stop).cpu(), Draws(*told).take(start, stop))


@pytest.mark.parametrize("rescale", ["l1", "inverse", "none"])
@pytest.mark.parametrize("density", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("method", ["della", "breadcrumbs"])
@pytest.mark.parametrize("shape", [(24, 33), (50,)])
def test_masks_keep_what_the_cpus_keep_with_the_same_factor(shape, method: str, density: float, rescale: str):
    models = make_models(shape, 1, dtype=torch.bfloat16)  # with equal magnitudes
    options = resolve_options(method, None, rescale, 1.0, 0.15, 0.2)
    vector = TaskVector(models.base.flatten(), Operand(models.sources[0], 1.0, density, Draws(0, "a", "w")), CHUNK)
    drop = METHODS[method].drop
    expected = keep_mask(vector, drop, options)
    sizes = (models.sources[0].float() - models.base.float()).abs().flatten().to(DEVICE)
    draws = DeviceDraws(0, "a", "w", DEVICE)
    if method == "della":
        mask = della_mask(sizes, shape[-1], density, options.epsilon, draws)
    else:
        window = magnitudes_of(sizes).window(density, options.gamma)
        assert window is not None
        mask = window_mask(sizes, window, draws)
    assert mask.cpu().bool().tolist() == expected.tolist()
    assert kept_ratio(sizes, mask, density, options.rescale) == rescale_factor(vector, expected, drop, options)


@pytest.mark.parametrize("density", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("shape", [(24, 33), (50,)])
def test_the_factors_of_each_element_are_the_cpus(shape, density: float):
    models = make_models(shape, 1, dtype=torch.bfloat16)
    vector = TaskVector(models.base.flatten(), Operand(models.sources[0], 1.0, density, Draws(0, "a", "w")), CHUNK)
    expected = element_factors(vector, resolve_options("della", None, "per_element", 1.0, 0.15, 0.2))
    sizes = (models.sources[0].float() - models.base.float()).abs().flatten().to(DEVICE)
    found = della_mask(sizes, shape[-1], density, 0.15, DeviceDraws(0, "a", "w", DEVICE), per_element=True)
    assert found.cpu().tolist() == expected.tolist()


@pytest.mark.parametrize("with_base", [True, False])
def test_dot_products_are_the_cpus_to_the_last_bit(with_base: bool):
    models = make_models((40, 50), 3, dtype=torch.bfloat16)
    base = models.base if with_base else None
    flat = [source.flatten().to(DEVICE) for source in models.sources]
    found = dot_products(flat, None if base is None else base.flatten().to(DEVICE))
    assert found == cpu_dot_products(models.sources, base, CHUNK)


def test_dot_products_of_nothing_and_of_what_is_not_finite():
    assert dot_products([torch.empty(0), torch.empty(0)], None) == {(0, 0): 0.0, (0, 1): 0.0, (1, 1): 0.0}
    found = dot_products([torch.tensor([1.0, torch.inf]), torch.ones(2)], None)
    assert all(value != value for value in found.values()), "all are NaN"
