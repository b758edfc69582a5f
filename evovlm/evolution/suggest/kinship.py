"""Kinship of task vectors: norms, cosines and sign conflicts between sources, per layer and overall.

Knows assemblies and tensors; no tasks, engines or scores. One tensor of each source is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.tensor_jobs import Job
from evovlm.recipe.layer_groups import layer_of

Pair = tuple[str, str]


@dataclass(frozen=True)
class Kinship:
    """Similarity of task vectors. Layers are numbered; -1 stands for everything outside them (embeddings, norm, head).

    norms: source -> norm of its task vector (Ilharco et al., arXiv:2212.04089); cosines: pair -> their cosine;
    conflicts: pair -> of the elements changed by both, the share changed in opposite directions (what TIES trims,
    arXiv:2306.01708); by_layer: pair -> layer -> cosine.
    """

    norms: Mapping[str, float]
    cosines: Mapping[Pair, float]
    conflicts: Mapping[Pair, float]
    by_layer: Mapping[Pair, Mapping[int, float]]

    def closest(self, source: str, others: tuple[str, ...]) -> tuple[str, float] | None:
        """The most similar of the other sources, and the cosine; None if there are no others."""
        found = [(other, self.cosine(source, other)) for other in others if other != source]
        return max(found, key=lambda one: one[1], default=None)

    def cosine(self, one: str, other: str) -> float:
        """The cosine of two sources' task vectors, in either order."""
        return self.cosines[(one, other) if (one, other) in self.cosines else (other, one)]


def kinship(assembly: Assembly, device: torch.device, step: Callable[[str], None]) -> Kinship:
    """Compare the task vectors of an assembly's sources, on a device; the recipe needs a base.

    `step` is called with the name of each tensor that is done.
    """
    names = tuple(assembly.sources)
    pairs = list(combinations(names, 2))
    squares: dict[str, dict[int, float]] = {name: {} for name in names}
    dots: dict[Pair, dict[int, float]] = {pair: {} for pair in pairs}
    opposite, moved = dict.fromkeys(pairs, 0), dict.fromkeys(pairs, 0)
    for job in assembly.jobs:
        found = layer_of(job.name)
        layer = -1 if found is None else found
        vectors = task_vectors(assembly, job, device)
        for source, vector in vectors.items():
            _add(squares[source], layer, vector.square().sum(dtype=torch.float64))
        for pair in pairs:
            product = vectors[pair[0]] * vectors[pair[1]]
            _add(dots[pair], layer, product.sum(dtype=torch.float64))
            opposite[pair] += int((product < 0).sum())
            moved[pair] += int((product != 0).sum())
        step(job.name)
    totals = {name: sum(parts.values()) for name, parts in squares.items()}
    return Kinship(
        norms={name: math.sqrt(total) for name, total in totals.items()},
        cosines={(a, b): _cosine(sum(dots[a, b].values()), totals[a], totals[b]) for a, b in pairs},
        conflicts={pair: opposite[pair] / moved[pair] if moved[pair] else 0.0 for pair in pairs},
        by_layer={
            (a, b): {
                layer: _cosine(dot, squares[a][layer], squares[b][layer]) for layer, dot in sorted(dots[a, b].items())
            }
            for a, b in pairs
        },
    )


def task_vectors(assembly: Assembly, job: Job, device: torch.device) -> dict[str, Tensor]:
    """Each source's task vector of one tensor, in float32 on the device; the recipe needs a base."""
    base = assembly.base_tensor(job)
    assert base is not None, "task vectors need a base"
    start = base.to(device).float()
    return {
        source: assembly.source_tensor(job, source, name, base).to(device).float() - start for source, name in job.parts
    }


def draw_kinship(found: Kinship) -> str:
    """An SVG with one row per pair of sources and one column per layer; orange: positive cosine, blue: negative."""
    pairs = list(found.by_layer)
    layers = sorted({layer for parts in found.by_layer.values() for layer in parts})
    left, top, side = 190, 50, 34
    width, height = left + side * len(layers) + 20, top + side * len(pairs) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="8" y="18">Cosine of task vectors per layer (out: embeddings, norm, head)</text>',
    ]
    for column, layer in enumerate(layers):
        x = left + side * column + side / 2
        parts.append(f'<text x="{x}" y="{top - 8}" text-anchor="middle">{"out" if layer < 0 else layer}</text>')
    for row, pair in enumerate(pairs):
        y = top + side * row
        parts.append(f'<text x="8" y="{y + side / 2 + 4}">{pair[0]} · {pair[1]}</text>')
        for column, layer in enumerate(layers):
            value = found.by_layer[pair].get(layer, 0.0)
            colour = "#d55e00" if value > 0 else "#3a8fd6"
            x = left + side * column
            parts.append(
                f'<rect x="{x}" y="{y}" width="{side - 2}" height="{side - 2}" fill="{colour}"'
                f' fill-opacity="{abs(value):.3f}" stroke="#ddd"/>'
                f'<text x="{x + side / 2 - 1}" y="{y + side / 2 + 3}" font-size="9" text-anchor="middle">'
                f"{value:.2f}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def _add(into: dict[int, float], layer: int, value: torch.Tensor) -> None:
    into[layer] = into.get(layer, 0.0) + float(value)


def _cosine(dot: float, one: float, other: float) -> float:
    return dot / math.sqrt(one * other) if one > 0 and other > 0 else 0.0
