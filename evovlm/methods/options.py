"""The options of merge methods. Knows no tensors, so that a recipe can be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Drop = Literal["random", "magnitude", "della", "breadcrumbs"]
Rescale = Literal["l1", "inverse", "none"]


@dataclass(frozen=True)
class MergeOptions:
    """A method's options with the defaults filled in.

    normalize: divide by the sum of the weights (with sign election, of the terms kept; a sum of 0 counts as 1).
    rescale: the factor that compensates for dropped elements. l1: |delta|_1 / |delta x mask|_1; inverse: 1 / density;
    none: 1. lambda_: factor of the merged task vector. epsilon: half the spread of della's keep-probabilities.
    gamma: the share of largest elements that breadcrumbs drops.
    """

    normalize: bool = False
    rescale: Rescale = "none"
    lambda_: float = 1.0
    epsilon: float = 0.15
    gamma: float = 0.01
