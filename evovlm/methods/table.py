"""Which methods there are, what each is made of, and what it takes where the recipe is silent.

Knows no tensors. The defaults are mergekit 0.1.x's, against which users compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evovlm.system.errors import RecipeError

Drop = Literal["random", "magnitude", "della", "breadcrumbs"]
Rescale = Literal["l1", "inverse", "none"]


@dataclass(frozen=True)
class Method:
    """One method. Those on task vectors are: drop, rescale, weight, elect signs, sum, normalise, add to base.

    drop: which elements of a task vector go (None: none do, and densities are unused).
    elect: keep only terms that agree with the sign of the weighted sum (TIES, arXiv:2306.01708).
    normalize, rescale: the defaults. needs_base: whether it works on task vectors.
    """

    name: str
    drop: Drop | None = None
    elect: bool = False
    rescale: Rescale = "none"
    normalize: bool = False
    needs_base: bool = True


@dataclass(frozen=True)
class MergeOptions:
    """A method's options with the defaults filled in.

    normalize: divide by the sum of the weights (of the terms kept, where signs are elected; 0 counts as 1).
    rescale: what makes up for dropped elements. l1: |delta|_1 / |delta x mask|_1; inverse: 1 / density; none.
    lambda_: factor of the merged task vector. epsilon: half the spread of della's keep-probabilities.
    gamma: the share of largest elements that breadcrumbs drops.
    """

    normalize: bool = False
    rescale: Rescale = "none"
    lambda_: float = 1.0
    epsilon: float = 0.15
    gamma: float = 0.01


# `magnitude` differs from `dare_linear` in which elements are dropped and in nothing else, so that comparing
# the two answers whether the drop has to be random.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("linear", normalize=True, needs_base=False),
        Method("slerp", needs_base=False),
        Method("task_arithmetic"),
        Method("ties", drop="magnitude", elect=True, normalize=True),
        Method("dare_linear", drop="random", rescale="l1"),
        Method("dare_ties", drop="random", elect=True, rescale="l1"),
        Method("magnitude", drop="magnitude", rescale="l1"),
        Method("della", drop="della", elect=True, rescale="l1", normalize=True),
        Method("della_linear", drop="della", rescale="l1"),
        Method("breadcrumbs", drop="breadcrumbs"),
        Method("breadcrumbs_ties", drop="breadcrumbs", elect=True),
        Method("model_stock"),
        Method("passthrough", needs_base=False),
    )
}


def find_method(name: str) -> Method:
    """The method of that name. Raises RecipeError, listing the choices."""
    if name not in METHODS:
        raise RecipeError(f"method: unknown method {name!r}; choose from {sorted(METHODS)}")
    return METHODS[name]


def resolve_options(
    method: str,
    normalize: bool | None,
    rescale: Rescale | None,
    lambda_: float,
    epsilon: float,
    gamma: float,
) -> MergeOptions:
    """Options for a method, its own defaults where None stands. Raises RecipeError: unknown method."""
    default = find_method(method)
    return MergeOptions(
        normalize=default.normalize if normalize is None else normalize,
        rescale=default.rescale if rescale is None else rescale,
        lambda_=lambda_,
        epsilon=epsilon,
        gamma=gamma,
    )
