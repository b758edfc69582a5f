"""The merge rules in float64, written as plainly as the papers put them: what the real ones are measured against.

Knows tensors and numbers; shares no code with the package. Masks are given, never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ELECTING = {"ties", "dare_ties", "della", "breadcrumbs_ties"}


@dataclass(frozen=True)
class Reference:
    """The merged tensor, and how far each element is from a sign tie: |sum of V| / sum of |V|, 1 at most."""

    merged: Array
    decisiveness: Array


def merge(
    method: str,
    base: Array | None,
    sources: Sequence[Array],
    weights: Sequence[float],
    masks: Sequence[NDArray[np.bool_] | None],
    densities: Sequence[float],
    *,
    normalize: bool,
    rescale: str,
    lambda_: float = 1.0,
    epsilon: float = 0.15,
) -> Reference:
    """Merge in float64; `rescale` applies to the sources that have a mask. epsilon: for `rescale: per_element`."""
    sure = np.ones_like(sources[0])
    if method == "passthrough":
        return Reference(sources[0], sure)
    if method == "linear":
        total = sum(w * x for w, x in zip(weights, sources, strict=True))
        return Reference(total / sum(weights) if normalize else total, sure)
    if method == "slerp":
        return Reference(slerp(sources[0], sources[1], weights[1] / sum(weights)), sure)
    assert base is not None
    if method == "model_stock":
        return Reference(model_stock(base, sources), sure)
    if method in PREPARED:
        vectors = PREPARED[method]([source - base for source in sources])
        tau = sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))
        return Reference(base + lambda_ * tau / (sum(weights) if normalize else 1.0), sure)
    terms = []
    for source, weight, mask, density in zip(sources, weights, masks, densities, strict=True):
        delta = source - base
        kept = delta if mask is None else np.where(mask, delta, 0.0)
        left = np.abs(kept).sum()
        if mask is not None and method in ("ties", "magnitude") and delta.size:
            # As many as were asked for, however many of a crowd of equals the draws let through.
            left = np.sort(np.abs(delta), axis=None)[-max(1, int(density * delta.size)) :].sum()
        if mask is not None and rescale == "l1" and left > 0:
            kept = kept * (np.abs(delta).sum() / left)
        if mask is not None and rescale == "inverse":
            kept = kept * (65536 / round(density * 65536))
        if mask is not None and rescale == "per_element":
            kept = kept / np.where(mask, keep_probabilities(delta, density, epsilon), 1.0)
        terms.append(weight * kept)
    tau = sum(terms)
    divisor = np.full_like(base, sum(weights))
    if method in ELECTING:
        mass = sum(np.abs(term) for term in terms)
        sure = np.divide(np.abs(tau), mass, out=np.ones_like(base), where=mass > 0)
        sign = np.where(tau >= 0, 1.0, -1.0)
        agrees = [np.sign(term) == sign for term in terms]
        tau = sum(np.where(agree, term, 0.0) for agree, term in zip(agrees, terms, strict=True))
        divisor = sum(weight * agree for weight, agree in zip(weights, agrees, strict=True))
    if normalize:
        tau = tau / np.where(divisor == 0, 1.0, divisor)
    return Reference(base + lambda_ * tau, sure)


def keep_probabilities(delta: Array, density: float, epsilon: float) -> Array:
    """DELLA's: from density - epsilon for the smallest of a row to density + epsilon, in 65536ths as draws are."""
    ranks = np.argsort(np.argsort(np.abs(delta), axis=-1, kind="stable"), axis=-1)
    share = 2 * ranks / max(1, delta.shape[-1] - 1) - 1
    return np.round((density + min(epsilon, density, 1 - density) * share) * 65536) / 65536


def slerp(first: Array, second: Array, t: float) -> Array:
    cosine = float((first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second)))
    if abs(cosine) > 0.9995:
        return (1 - t) * first + t * second
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * first + math.sin(t * angle) * second) / math.sin(angle)


def model_stock(base: Array, sources: Sequence[Array]) -> Array:
    deltas = [source - base for source in sources]
    cosines = [
        float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))
        for index, a in enumerate(deltas)
        for b in deltas[index + 1 :]
    ]
    cosine = sum(cosines) / len(cosines)
    t = len(sources) * cosine / (1 + (len(sources) - 1) * cosine)
    return t * sum(sources) / len(sources) + (1 - t) * base


def thin_svd(matrix: Array, most: int | None = None, above: float = 0.0) -> tuple[Array, Array, Array]:
    """U, the values, and V of the first triples, without values of 1e-6 times the largest or less."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = int(((values > 1e-6 * values.max(initial=0.0)) & (values > above)).sum())
    kept = kept if most is None else min(kept, most)
    return left[:, :kept], values[:kept], right[:kept].T


def polar(columns: Array) -> Array:
    left, _, right = thin_svd(columns)
    return left @ right.T


def tsv(deltas: Sequence[Array], rank_share: float | None = None) -> list[Array]:
    """The terms of TSV-M: what polar(U) diag(S) polar(V)^T has of each task vector's columns."""
    if deltas[0].ndim != 2:
        return [delta / len(deltas) for delta in deltas]
    rank = min(deltas[0].shape)
    kept = rank // len(deltas) if rank_share is None else math.floor(rank_share * rank + 1e-9)
    found = [thin_svd(delta, kept) for delta in deltas]
    left, right = (polar(np.concatenate([one[side] for one in found], axis=1)) for side in (0, 2))
    ends = np.cumsum([0, *(len(values) for _, values, _ in found)])
    return [
        left[:, start:stop] @ np.diag(values) @ right[:, start:stop].T
        for (_, values, _), start, stop in zip(found, ends[:-1], ends[1:], strict=True)
    ]


def iso_c(deltas: Sequence[Array]) -> Array:
    total = sum(deltas)
    if total.ndim != 2:
        return total / len(deltas)
    left, values, right = thin_svd(total)
    return values.sum() / min(total.shape) * left @ right.T


def iso_cts(deltas: Sequence[Array], common_share: float = 0.8) -> Array:
    total, count = sum(deltas), len(deltas)
    if total.ndim != 2:
        return total / count
    rank = min(total.shape)
    first = math.floor(common_share * rank + 1e-9)
    own = int(np.round((rank - first) / count))
    left, values, right = thin_svd(total)
    common, outside = rank - own * count, left[:, :first]
    found = [(left[:, :common], values[:common], right[:, :common])]
    for delta in deltas:
        found.append(thin_svd(delta - outside @ outside.T @ delta, own, above=1e-6 * float(np.linalg.norm(delta))))
    left, right = (polar(np.concatenate([one[side] for one in found], axis=1)) for side in (0, 2))
    return np.concatenate([one[1] for one in found]).sum() / rank * left @ right.T


def knots_ties(deltas: Sequence[Array], keep: float = 1.0) -> Array:
    if deltas[0].ndim != 2:
        return sum(deltas) / len(deltas)
    left, values, right = thin_svd(np.concatenate(deltas, axis=1), above=1e-5)
    parts = np.stack(np.split(values[:, None] * right.T, len(deltas), axis=1))
    size = parts[0].size
    for part in parts:
        dropped = size - math.floor(keep * size + 1e-9)
        if dropped:
            part[np.abs(part) < np.sort(np.abs(part), axis=None)[dropped - 1]] = 0.0
    signs = np.sign(parts.sum(axis=0))
    signs = np.where(signs == 0, np.sign(signs.sum()) or 1.0, signs)
    agrees = np.sign(parts) == signs
    return left @ (np.where(agrees, parts, 0.0).sum(axis=0) / np.maximum(agrees.sum(axis=0), 1))


def wudi(deltas: Sequence[Array], steps: int = 300, rate: float = 1e-5) -> Array:
    """Adam on the loss as the paper writes it, its gradient taken product by product."""
    if deltas[0].ndim != 2:
        return sum(deltas) / len(deltas)
    merged, used = sum(deltas), [delta for delta in deltas if np.any(delta)]
    first, second = np.zeros_like(merged), np.zeros_like(merged)
    for step in range(1, steps + 1):
        gradient = sum((2 * (merged - delta) @ delta.T @ delta / np.sum(delta**2) for delta in used), 0 * merged)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        merged = merged - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return merged


def _whole(merged: Callable[[Sequence[Array]], Array]) -> Callable[[Sequence[Array]], list[Array]]:
    """One vector per source, the same for all, whose sum is the merged one."""
    return lambda deltas: [merged(deltas) / len(deltas)] * len(deltas)


# Methods whose merge is a weighted sum of these vectors.
PREPARED = {
    "tsv_m": tsv,
    "iso_c": _whole(iso_c),
    "iso_cts": _whole(iso_cts),
    "knots_ties": _whole(knots_ties),
    "wudi": _whole(wudi),
}
