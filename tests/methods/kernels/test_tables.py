"""Tables made once a tensor answer what the CPU finds by looking at every element."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.methods import MergeOptions
from evovlm.methods._drop import keep_mask, rescale_factor
from evovlm.methods.draws import Draws, threshold
from evovlm.methods.kernels import tables
from evovlm.methods.kernels.tables import magnitudes_of
from evovlm.methods.kernels.tabulate import draw_sums
from evovlm.methods.operand import Operand, TaskVector
from tests.methods.kernels.fusing import DEVICE
from tests.methods.merging import make_models


def delta_of(shape=(40, 50), dtype=torch.bfloat16):
    models = make_models(shape, 1, dtype=dtype)
    return (models.sources[0].float() - models.base.float()).flatten()


@pytest.mark.parametrize("density", [0.001, 0.3, 0.7, 0.99])
def test_sums_by_draw_are_those_of_the_mask(density):
    delta = delta_of()
    draws = Draws(3, "a", "w")
    vector = TaskVector(torch.zeros_like(delta), Operand(delta, 1.0, density, draws), 256)
    mask = keep_mask(vector, "random", MergeOptions())
    sizes = delta.abs()
    table = draw_sums(sizes.to(DEVICE), draws.key, float(sizes.max()))
    assert table.ratio(threshold(density)) == rescale_factor(vector, mask, "random", MergeOptions(rescale="l1"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("density", [0.0004, 0.2, 0.6, 0.999])
def test_the_edge_keeps_what_the_cpu_keeps(density, dtype):
    delta = delta_of(dtype=dtype)
    draws = Draws(0, "a", "w")
    vector = TaskVector(torch.zeros_like(delta), Operand(delta, 1.0, density, draws), 256)
    mask = keep_mask(vector, "magnitude", MergeOptions())
    edge = magnitudes_of(delta.abs().to(DEVICE)).edge(density)
    sizes = delta.abs().numpy()
    crowd = (sizes == np.float32(edge.value)) & (draws.raw(0, len(sizes)) < edge.limit)
    assert np.array_equal(mask, (sizes > np.float32(edge.value)) | crowd)
    assert edge.ratio == rescale_factor(vector, mask, "magnitude", MergeOptions(rescale="l1"))


def test_a_table_of_too_many_values_keeps_the_share_to_a_ten_thousandth(monkeypatch):
    monkeypatch.setattr(tables, "MOST_VALUES", 1000)
    sizes = torch.randn(300_000, generator=torch.Generator().manual_seed(0)).abs()
    table = magnitudes_of(sizes.to(DEVICE))
    assert len(table.values) <= tables.STEPS + 1
    for density in (0.01, 0.123456, 0.5, 0.9, 0.9999):
        edge = table.edge(density)
        assert edge.limit == 65536
        kept = sizes >= edge.value
        assert abs(float(kept.double().mean()) - density) <= 1e-4
        assert edge.ratio == pytest.approx(float(sizes.double().sum() / sizes[kept].double().sum()), rel=1e-6)
