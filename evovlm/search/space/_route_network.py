"""pi_theta: a small network that computes the scale of each transition, so that few genes give many scales.

Knows only numbers. Source: arXiv:2403.13187, section 3.2: W_ij = pi_theta(i, j, t), with evolved theta.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

INPUTS = 3  # i, j, t


def weights_in(hidden: int) -> int:
    """The number of weights in theta, for a hidden layer of width `hidden`."""
    return hidden * (INPUTS + 1) + hidden + 1


def scale_of(theta: Sequence[float], place: tuple[float, float, float], low: float, high: float) -> float:
    """The scale, in [low, high], of the transition at `place` = (i, j, t), each as a share of its range, 0 to 1.

    Hidden layer and output use tanh: if theta is all zeros, every scale is the middle of the range. `theta`: hidden
    weights [hidden][3 + 1], then output weights [hidden + 1], biases last.
    """
    hidden = (len(theta) - 1) // (INPUTS + 2)
    inner = np.asarray(theta[: hidden * (INPUTS + 1)], dtype=float).reshape(hidden, INPUTS + 1)
    outer = np.asarray(theta[hidden * (INPUTS + 1) :], dtype=float)
    seen = np.tanh(inner[:, :INPUTS] @ (2 * np.asarray(place) - 1) + inner[:, INPUTS])
    out = float(np.tanh(outer[:hidden] @ seen + outer[hidden]))
    return (low + high) / 2 + (high - low) / 2 * out
