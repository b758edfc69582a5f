"""The merge rules in float64, written as plainly as the papers put them: what the real ones are measured against.

Knows tensors and numbers; shares no code with the package. Masks are given, never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    **own: Any,
) -> Reference:
    """Merge in float64; `rescale` applies to the sources that have a mask.

    epsilon: for `rescale: per_element`. own: a method's own options.
    """
    sure = np.ones_like(sources[0])
    if method in SPHERICAL:
        return Reference(SPHERICAL[method](base, sources, weights, **own), sure)
    if method in CHOOSING:
        assert base is not None
        return CHOOSING[method](base, sources, **own)
    if method == "passthrough":
        return Reference(sources[0], sure)
    if method == "linear":
        total = sum(w * x for w, x in zip(weights, sources, strict=True))
        return Reference(total / sum(weights) if normalize else total, sure)
    if method == "slerp":
        return Reference(slerp(sources[0], sources[1], weights[1] / sum(weights)), sure)
    assert base is not None
    if method == "model_stock":
        return Reference(model_stock(base, sources, **own), sure)
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


def model_stock(base: Array, sources: Sequence[Array], filter_wise: bool = False) -> Array:
    if filter_wise and base.ndim > 1:
        rows = [source.reshape(-1, base.shape[-1]) for source in sources]
        found = [model_stock(z, list(xs)) for z, *xs in zip(base.reshape(-1, base.shape[-1]), *rows, strict=True)]
        return np.array(found).reshape(base.shape)
    deltas = [source - base for source in sources]
    cosines = [
        float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-6))
        for index, a in enumerate(deltas)
        for b in deltas[index + 1 :]
    ]
    cosine = sum(cosines) / len(cosines)
    determinant = 1 + (len(sources) - 1) * cosine
    t = 0.0 if abs(determinant) < 1e-6 else len(sources) * cosine / determinant
    return t * sum(sources) / len(sources) + (1 - t) * base


def nuslerp(
    base: Array | None,
    sources: Sequence[Array],
    weights: Sequence[float],
    flatten: bool = True,
    row_wise: bool = False,
) -> Array:
    root = np.zeros_like(sources[0]) if base is None else base
    first, second = (source - root for source in sources)
    total = sum(weights)
    t = 0.5 if abs(total) < 1e-6 else weights[1] / total
    if flatten or root.ndim < 2:
        return root + turned(first.ravel(), second.ravel(), t).reshape(root.shape)
    axis = 0 if row_wise else -1
    ways = (np.moveaxis(each, axis, -1) for each in (first, second))
    firsts, seconds = (each.reshape(-1, root.shape[axis]) for each in ways)
    found = np.array([turned(a, b, t) for a, b in zip(firsts, seconds, strict=True)])
    return root + np.moveaxis(found.reshape(np.moveaxis(root, axis, -1).shape), -1, axis)


def turned(a: Array, b: Array, t: float) -> Array:
    """Between two vectors on the sphere, with their lengths in the sum."""
    cosine = np.clip(np.dot(a / max(np.linalg.norm(a), 1e-7), b / max(np.linalg.norm(b), 1e-7)), -1, 1)
    if 1 - cosine**2 <= 1e-16:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def multislerp(
    base: Array | None,
    sources: Sequence[Array],
    weights: Sequence[float],
    normalize_weights: bool = True,
    eps: float = 1e-8,
) -> Array:
    if len(sources) == 1:
        return sources[0]
    root = np.zeros_like(sources[0]) if base is None else base
    vectors = [source - root for source in sources]
    lengths = [np.linalg.norm(vector) for vector in vectors]
    if not any(lengths):
        return root
    shares = [weight / sum(weights) for weight in weights] if normalize_weights else list(weights)
    units = [vector / (length + eps) for vector, length in zip(vectors, lengths, strict=True)]
    mean = sum(share * unit for share, unit in zip(shares, units, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(share * (unit - (unit * mean).sum() * mean) for share, unit in zip(shares, units, strict=True))
    angle = np.linalg.norm(tangent) + eps
    point = np.cos(angle) * mean + np.sin(angle) / angle * tangent
    return root + sum(share * length for share, length in zip(shares, lengths, strict=True)) * point


def karcher(
    base: Array | None,
    sources: Sequence[Array],
    weights: Sequence[float],
    max_iter: int = 10,
    tol: float = 1e-5,
) -> Array:
    if len(sources) == 1:
        return sources[0]
    lengths = [np.linalg.norm(source) for source in sources]
    units = [source / length for source, length in zip(sources, lengths, strict=True) if length > tol]
    if not units:
        return np.zeros_like(sources[0])
    mean = sum(units) / len(units)
    mean = units[0] if np.linalg.norm(mean) < tol else mean / np.linalg.norm(mean)
    for _ in range(max_iter):
        step = np.zeros_like(mean)
        for unit in units:
            cosine = np.clip((mean * unit).sum(), -1, 1)
            angle = np.arccos(cosine)
            if angle >= tol:
                step = step + angle / np.sin(angle) * (unit - cosine * mean) / len(units)
        far = np.linalg.norm(step)
        if far < tol:
            break
        mean = np.cos(far) * mean + np.sin(far) * step / far
        mean = mean / np.linalg.norm(mean)
    return sum(lengths) / len(lengths) * mean


def nearswap(base: Array, sources: Sequence[Array], t: float = 1e-4) -> Reference:
    (source,) = sources
    share = np.clip(t / np.maximum(np.abs(base - source), 1e-6), 0, 1)
    return Reference(share * source + (1 - share) * base, np.ones_like(base))


def sce(base: Array, sources: Sequence[Array], select_topk: float = 1.0) -> Reference:
    deltas = np.array([source - base for source in sources])
    sure = np.ones_like(base)
    if select_topk < 1:
        variance = deltas.var(axis=0)
        variance[(deltas == deltas[0]).all(axis=0)] = 0
        kept = int(np.float32(select_topk) * np.float32(np.count_nonzero(variance)))
        order = np.argsort(-variance, axis=None, kind="stable")
        mask = np.zeros(base.size)
        mask[order[:kept]] = 1
        deltas = deltas * mask.reshape(base.shape)
        edge = variance.ravel()[order[min(kept, base.size - 1)]] if base.size else 0.0
        sure = np.abs(variance - edge) / np.maximum(edge, 1e-30) * (variance != 0) + (variance == 0)
    squares = [float((delta**2).mean()) if delta.size else 0.0 for delta in deltas]
    weights = [1 / len(squares)] * len(squares) if sum(squares) < 1e-6 else [one / sum(squares) for one in squares]
    total, mass = deltas.sum(axis=0), np.abs(deltas).sum(axis=0)
    sure = np.minimum(sure, np.divide(np.abs(total), mass, out=np.ones_like(base), where=total != 0))
    agrees = [np.sign(delta) == np.where(total >= 0, 1, -1) for delta in deltas]
    tau = sum(w * np.where(agree, delta, 0) for w, agree, delta in zip(weights, agrees, deltas, strict=True))
    divisor = sum(w * agree for w, agree in zip(weights, agrees, strict=True))
    return Reference(base + tau / np.maximum(divisor, 1e-6), sure)


def ram(
    base: Array, sources: Sequence[Array], threshold: float = 1e-5, factors: Sequence[float] | None = None
) -> Reference:
    deltas = [source - base for source in sources]
    active = [np.abs(delta) > threshold for delta in deltas]
    count = np.array(active).sum(axis=0)
    total = sum(np.where(own, delta, 0) for own, delta in zip(active, deltas, strict=True))
    alone = sum(
        factor * np.where(own, delta, 0)
        for factor, own, delta in zip(factors or [1.0] * len(deltas), active, deltas, strict=True)
    )
    moved = np.where(count == 0, 0, np.where(count == 1, alone, total / np.maximum(count, 1)))
    return Reference(base + moved, np.min([np.abs(np.abs(delta) / threshold - 1) for delta in deltas], axis=0))


def ramplus_tl(
    base: Array, sources: Sequence[Array], r: float = 0.1, alpha: float = 0.2, threshold: float = 1e-5
) -> Reference:
    active = np.array([np.abs(source - base) > threshold for source in sources])
    count = active.sum(axis=0)
    overlaps = [(own & (count >= 2)).sum() / max(float((own & (count == 1)).sum()), threshold) for own in active]
    return ram(base, sources, threshold, [1 + r * min(max(overlap, 0), alpha) for overlap in overlaps])


def arcee_fusion(base: Array, sources: Sequence[Array]) -> Reference:
    (source,) = sources
    p, q = (softmax(values) + 1e-8 for values in (source, base))
    importance = np.abs(source - base) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    ordered = np.sort(importance, axis=None)
    first, middle, third = (ordered[int(share * (base.size - 1))] if base.size else 0.0 for share in (0.25, 0.5, 0.75))
    edge = middle + 1.5 * (third - first)
    # A divergence is a small difference of float32 numbers: it is right to some parts in 10000.
    sure = np.abs(importance - edge) / max(edge, 1e-30) / 30
    return Reference(np.where(importance >= edge, source, base), np.where((source == base) | (edge == 0), 1.0, sure))


def softmax(values: Array) -> Array:
    if not values.size:
        return values
    powers = np.exp(values - values.max(axis=-1, keepdims=True)) if values.ndim else np.ones(1)
    return powers / powers.sum(axis=-1, keepdims=True)


SPHERICAL: dict[str, Callable[..., Array]] = {"nuslerp": nuslerp, "multislerp": multislerp, "karcher": karcher}
CHOOSING: dict[str, Callable[..., Reference]] = {
    "nearswap": nearswap,
    "sce": sce,
    "ram": ram,
    "ramplus_tl": ramplus_tl,
    "arcee_fusion": arcee_fusion,
}
