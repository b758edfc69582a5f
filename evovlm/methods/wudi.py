"""WUDI: the merged task vector that disturbs each task's own input directions the least (arXiv:2503.08099).

Knows task vectors of one tensor; no models, weights or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from evovlm.methods._registry import prepared_method
from evovlm.methods._singular import Matrices, averaged, deltas_of, is_zero, shared

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as in the paper


class WudiOptions(Matrices):
    """Options of `wudi`."""

    steps: int = Field(default=300, ge=0, le=100_000, description="steps of Adam")
    rate: float = Field(default=1e-5, ge=0.0, description="learning rate of Adam")


def wudi(deltas: Sequence[Tensor], steps: int = 300, rate: float = 1e-5) -> Tensor:
    """Minimise sum_i |(D - delta_i) delta_i^T|^2 / |delta_i|^2 over D by Adam from D = sum of deltas; float32.

    Stopped after `steps` steps of learning rate `rate`, as in the paper (300 of 1e-5): no element moves by more than
    about steps x rate, and the exact minimum is another matrix. Task vectors of 0 are left out. Tensors that are not
    matrices: the mean of all task vectors.

    D and the moments are float64, because Adam divides by their sizes: rounding would decide where gradients are small.
    """
    if deltas[0].ndim != 2:
        return averaged(deltas)
    wide = [delta.double() for delta in deltas if not is_zero(delta)]
    merged = torch.zeros_like(deltas[0], dtype=torch.float64)
    if not wide:
        return merged.float()
    # The gradient is D A - B with A = sum of 2 delta^T delta / |delta|^2 and B = sum of 2 delta delta^T delta / |..|^2.
    slope, shift = merged.new_zeros(merged.shape[1], merged.shape[1]), torch.zeros_like(merged)
    for delta in wide:
        merged += delta
        own = delta.T @ delta * (2.0 / delta.square().sum())
        slope += own
        shift += delta @ own
    first, second = torch.zeros_like(merged), torch.zeros_like(merged)
    for step in range(1, steps + 1):
        gradient = merged @ slope - shift
        first.mul_(FIRST_DECAY).add_(gradient, alpha=1 - FIRST_DECAY)
        second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        spread = (second / (1 - SECOND_DECAY**step)).sqrt_().add_(EPSILON)
        merged.addcdiv_(first, spread, value=-rate / (1 - FIRST_DECAY**step))
    return merged.float()


@prepared_method(
    "wudi",
    one_vector=True,
    options=WudiOptions,
    source="arXiv:2503.08099",
    cost="set-up: two products of matrices per step, for each matrix; then one read per candidate",
)
def prepare_wudi(base: Tensor, sources: Sequence[Tensor], options: WudiOptions) -> list[Tensor]:
    """Find by Adam the task vector that least disturbs what each source reacts to; weights act by their mean."""
    return shared(wudi(deltas_of(base, sources), options.steps, options.rate), len(sources))
