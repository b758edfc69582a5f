"""One tensor merged by the fused pass, from the same arguments as `tests.methods.merging.merge`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evovlm.methods import METHODS, PreparedSum, resolve_options
from evovlm.methods.draws import draw_key
from evovlm.methods.kernels.launch import Shape, merge_batch
from evovlm.methods.kernels.layout import Operands, make_batch
from evovlm.methods.kernels.numbers import Share, divisors_of, rows_of
from evovlm.methods.kernels.products import dot_products
from evovlm.methods.kernels.tables import magnitudes_of
from evovlm.methods.kernels.tabulate import draw_sums
from tests.methods.merging import Models, sources_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SMALL = Shape(groups=16, warps=1, repeats=2)


def share_of(delta: Tensor, weight: float, density: float, key: int) -> Share:
    """A share with every table that a method may want."""
    sizes = delta.abs()
    if not sizes.numel() or not bool(torch.isfinite(sizes).all()) or not float(sizes.max()):
        return Share(weight, density, key)
    return Share(weight, density, key, draw_sums(sizes, key, float(sizes.max())), magnitudes_of(sizes))


def fuse(
    method: str,
    models: Models,
    *,
    weights: Sequence[float] = (0.7, 0.45, -0.2),
    densities: Sequence[float] = (0.6, 0.35, 0.8),
    normalize: bool | None = None,
    rescale: str | None = None,
    lambda_: float = 1.0,
    gamma: float = 0.01,
    dtype: torch.dtype | None = None,
    out: torch.dtype | None = None,
    shape: Shape = SMALL,
) -> tuple[Tensor, bool]:
    """The merged tensor, back on the CPU, and whether a value was told not to be finite."""
    base = models.base.to(DEVICE).flatten()
    found = METHODS[method]
    sources = tuple(tensor.to(DEVICE).flatten() for tensor in sources_of(method, models))
    options = resolve_options(method, normalize, rescale, lambda_, 0.15, gamma)
    if isinstance(found.rule, PreparedSum):  # made on the CPU, as the merge that it is compared with
        vectors = found.rule.made(models.base, sources_of(method, models), options)
        sources = tuple(vector.to(DEVICE).flatten() for vector in vectors)
    merged = dtype or models.base.dtype
    # Poisoned, so that an element that is never written shows.
    target = torch.full(base.shape, torch.nan, dtype=out or merged, device=DEVICE)
    operands = Operands(target, base if found.needs_base else None, sources)
    shares = [
        share_of(source.to(base.dtype).float() - base.float(), weights[index], densities[index], draw_key(0, name, "w"))
        for index, (source, name) in enumerate(zip(sources, "abcdef", strict=False))
    ]
    if method in ("slerp", "model_stock"):
        products = dot_products(sources, operands.base)
        shares = [share._replace(products=products) for share in shares]
    batch = make_batch([operands], merged, DEVICE, shape.groups, shape.repeats)
    batch.numbers.copy_(torch.from_numpy(rows_of(method, options, [shares])))
    batch.divisors.copy_(torch.from_numpy(divisors_of(method, options, [shares])))
    merge_batch(batch, method, options, shape)
    return target.cpu().reshape(models.base.shape), bool(batch.faults.any())
