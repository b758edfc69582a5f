"""Time to prepare the task vectors of methods on whole matrices: one matrix of each shape, and the tower from these.

Knows random task vectors, and the operations that preparing consists of. No searches, files or kernels.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evovlm.methods import METHODS, resolve_options
from evovlm.methods.isotropic import iso_c
from evovlm.methods.tsv import tsv_terms
from evovlm_benchmarks.merge_speed import SCALES
from evovlm_benchmarks.speed.floors import Rates, wall_seconds
from evovlm_benchmarks.speed.settings import Settings
from evovlm_benchmarks.speed.towers import SPREAD, STEP

# In the order in which they are measured: what is likely to be stopped by the budget comes last.
PLANS = (
    ("tsv_m", 2), ("tsv_m", 3), ("iso_c", 2), ("iso_cts", 2), ("knots_ties", 2), ("iso_c", 3), ("iso_cts", 3),
    ("knots_ties", 3), ("wudi", 2), ("wudi", 3),
)  # fmt: skip
QUICK = ("tsv_m", "iso_c")
BUDGET = 75.0  # seconds, after which nothing more is begun
STEPS, ALL_STEPS = 10, 300  # of wudi: steps take equally long, so few are measured
CHECKED = (192, 448)


def prepare_rows(settings: Settings, rates: Rates) -> Iterator[dict[str, Any]]:
    """Yield errors on a small matrix, times of building blocks, then times per method and matrix shape."""
    started = time.perf_counter()
    device = settings.device
    yield from _errors(device)
    shapes = Counter(
        shape for name, shape in SCALES[settings.scale].tensors() if len(shape) == 2 and ".layers." in name
    )
    yield from _blocks(max(min(shape) for shape in shapes), device)
    for method, sources in PLANS:
        if method not in (settings.methods or (QUICK if settings.quick else {name for name, _ in PLANS})):
            continue
        measured: dict[tuple[int, ...], float] = {}
        for shape in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
            label = {"what": "one matrix", "method": method, "sources": sources, "shape": _named(shape)}
            spent = time.perf_counter() - started
            expected = _expected(measured, shape)
            if spent + expected > BUDGET:
                yield label | {"what": f"not measured: {spent:.0f} s are spent, and it may take {expected:.0f} s"}
                break
            try:
                measured[shape] = _seconds(method, shape, sources, device)
            except torch.OutOfMemoryError:
                yield label | {"what": "does not fit this GPU"}
                break
            yield label | {"seconds": measured[shape]}
        if len(measured) == len(shapes):
            total = sum(measured[shape] * count for shape, count in shapes.items())
            told = {"what": "tower, from these", "method": method, "sources": sources}
            yield told | {"shape": f"{sum(shapes.values())} matrices", "seconds": total}


def _expected(measured: dict[tuple[int, ...], float], shape: tuple[int, ...]) -> float:
    """Seconds that a shape may take, by the largest measured one."""
    if not measured:
        return 0.0
    largest = max(measured, key=lambda one: one[0] * one[1])
    return measured[largest] * float((math.prod(shape) / math.prod(largest)) ** 1.5)


def _seconds(method: str, shape: tuple[int, ...], sources: int, device: torch.device) -> float:
    """Seconds to prepare one matrix; of two runs the shorter, unless one takes more than a second."""
    base, tuned = _models(shape, sources, device)
    own = resolve_options(method, None, None, 1.0, 0.15, 0.01).own
    prepare = METHODS[method].prepare
    assert prepare is not None
    assert own is not None
    share = 1
    if method == "wudi":
        own, share = own.model_copy(update={"steps": STEPS}), ALL_STEPS // STEPS
    work = partial(prepare, base, tuned, own)
    found = min(wall_seconds(work, device, 1))
    if found < 1.0:
        found = min(found, *wall_seconds(work, device, 1))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found * share


def _blocks(side: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Single operations on one square random matrix."""
    (delta,) = _deltas((side, side), 1, device)
    gram = delta @ delta.T
    narrow = gram.float()
    share = float(gram.trace()) / side
    positive = gram / share + torch.eye(side, dtype=gram.dtype, device=device)
    lower = torch.linalg.cholesky(positive)
    works: dict[str, Callable[[], object]] = {
        "product, float64": lambda: delta @ gram,
        "Cholesky, float64": lambda: torch.linalg.cholesky_ex(positive),
        "solve by Cholesky, float64": lambda: torch.cholesky_solve(gram, lower),
        "eigenvalues, float32": lambda: torch.linalg.eigvalsh(narrow),
        "eigenvectors, float32": lambda: torch.linalg.eigh(narrow),
        "eigenvalues, float64": lambda: torch.linalg.eigvalsh(gram),
        "eigenvectors, float64": lambda: torch.linalg.eigh(gram),
    }
    for what, work in works.items():
        work()  # starts what the library keeps
        yield {"what": what, "shape": _named((side, side)), "seconds": min(wall_seconds(work, device, 2))}


def _errors(device: torch.device) -> Iterator[dict[str, Any]]:
    """TSV-M and Iso-C against NumPy's SVD in float64, as a share of the largest element."""
    for shape in (CHECKED, (CHECKED[0], CHECKED[0])):
        deltas = _deltas(shape, 3, device)
        arrays = [delta.cpu().numpy() for delta in deltas]
        told = {"what": "error", "sources": 3, "shape": _named(shape)}
        errors = [_error(*pair) for pair in zip(tsv_terms(deltas), _tsv_by_numpy(arrays), strict=True)]
        yield told | {"method": "tsv_m", "error": max(errors)}
        yield told | {"method": "iso_c", "error": _error(iso_c(deltas), _iso_c_by_numpy(arrays))}


def _tsv_by_numpy(deltas: Sequence[Any]) -> list[Any]:
    kept = min(deltas[0].shape) // len(deltas)
    found = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    left = _polar_by_numpy(np.concatenate([u[:, :kept] for u, _, _ in found], axis=1))
    right = _polar_by_numpy(np.concatenate([v[:kept].T for _, _, v in found], axis=1))
    spans = [slice(number * kept, (number + 1) * kept) for number in range(len(deltas))]
    return [
        (left[:, span] * values[:kept]) @ right[:, span].T for span, (_, values, _) in zip(spans, found, strict=True)
    ]


def _iso_c_by_numpy(deltas: Sequence[Any]) -> Any:
    left, values, right = np.linalg.svd(np.sum(deltas, axis=0), full_matrices=False)
    return left @ right * values.mean()


def _polar_by_numpy(matrix: Any) -> Any:
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def _error(found: Tensor, expected: Any) -> float:
    return float(np.abs(found.double().cpu().numpy() - expected).max() / np.abs(expected).max())


def _models(shape: tuple[int, ...], sources: int, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """A random base and random sources as bfloat16 has them, in float32."""
    generator = torch.Generator(device).manual_seed(sources)

    def drawn(spread: float) -> Tensor:
        return torch.randn(shape, generator=generator, device=device) * spread

    base = drawn(SPREAD).bfloat16()
    return base.float(), [(base + drawn(STEP)).bfloat16().float() for _ in range(sources)]


def _deltas(shape: tuple[int, ...], sources: int, device: torch.device) -> list[Tensor]:
    base, tuned = _models(shape, sources, device)
    return [source.double() - base.double() for source in tuned]


def _named(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
