"""The merge rules in float64, written as plainly as the papers put them: what the real ones are measured against.

Knows tensors and numbers; shares no code with the package. Masks are given, never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
