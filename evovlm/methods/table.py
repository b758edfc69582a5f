"""The registry of methods: one row each with its rule, requirements and defaults.

Knows rules but no tensors. The defaults are those of mergekit 0.1.x, so that users can compare. To add a method, write
its rule and a row here, or decorate a function with `method` in your own module (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable

from evovlm.methods._task_vectors import TaskVectorSum
from evovlm.methods._whole_tensor import Function, WholeTensor
from evovlm.methods.definition import Method
from evovlm.methods.interpolate import copy_single, linear, model_stock, slerp
from evovlm.methods.options import Drop, MergeOptions, Rescale
from evovlm.system.errors import RecipeError


def _sum(
    name: str, drop: Drop | None = None, *, elect: bool = False, rescale: Rescale = "none", normalize: bool = False
) -> Method:
    """A method that drops, rescales, weights, elects signs, sums, normalises and adds to the base."""
    return Method(name, TaskVectorSum(drop, elect), drop, elect, rescale, normalize)


# `magnitude` differs from `dare_linear` only in which elements are dropped, so that comparing the two shows whether
# the drop has to be random.
METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method("linear", linear, normalize=True, needs_base=False),
        Method("slerp", slerp, needs_base=False, fewest=2, most=2),
        _sum("task_arithmetic"),
        _sum("ties", "magnitude", elect=True, normalize=True),
        _sum("dare_linear", "random", rescale="l1"),
        _sum("dare_ties", "random", elect=True, rescale="l1"),
        _sum("magnitude", "magnitude", rescale="l1"),
        _sum("della", "della", elect=True, rescale="l1", normalize=True),
        _sum("della_linear", "della", rescale="l1"),
        _sum("breadcrumbs", "breadcrumbs"),
        _sum("breadcrumbs_ties", "breadcrumbs", elect=True),
        Method("model_stock", model_stock, fewest=2),
        Method("passthrough", copy_single, needs_base=False, most=1),
    )
}


def register(row: Method) -> None:
    """Add a method, which recipes can then name. Raises ValueError if the name is taken."""
    if row.name in METHODS:
        raise ValueError(f"method {row.name!r} exists already; choose a name other than {sorted(METHODS)}")
    METHODS[row.name] = row


def method(
    name: str,
    *,
    needs_base: bool = True,
    normalize: bool = False,
    drop: Drop | None = None,
    fewest: int = 1,
    most: int | None = None,
) -> Callable[[Function], Function]:
    """Register a function of whole tensors as the method `name`.

    The function is called with the base (float32, or None without `needs_base`), the operands in source order, with
    float32 tensors of the base's shape, and the options; it returns the merged tensor [same shape], which is then
    rounded to the recipe's dtype. drop: set it if the function uses `operand.density`, so that a search varies it.
    Whole float32 tensors take more memory than the streaming rules of this package; see `Method` for those.
    Raises ValueError if the name is taken.
    """

    def add(function: Function) -> Function:
        rule = WholeTensor(name, function)
        register(Method(name, rule, drop, normalize=normalize, needs_base=needs_base, fewest=fewest, most=most))
        return function

    return add


def find_method(name: str) -> Method:
    """The method of that name. Raises RecipeError, which lists the choices, if there is none."""
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
    """The options for a method, with its own defaults in place of None. Raises RecipeError if the method is unknown."""
    default = find_method(method)
    return MergeOptions(
        normalize=default.normalize if normalize is None else normalize,
        rescale=default.rescale if rescale is None else rescale,
        lambda_=lambda_,
        epsilon=epsilon,
        gamma=gamma,
    )
