"""The registry of methods: one row each, by name. Knows no particular method; `table` has those of this package.

To add a method, decorate a function with `method` or `prepared_method` (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evovlm.methods._prepared import PreparedSum
from evovlm.methods._whole_tensor import Function, WholeTensor
from evovlm.methods.definition import Method, Prepare
from evovlm.methods.options import Drop, MergeOptions, OwnOptions, Rescale, Shared
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged
from evovlm.system.plugins import loading

METHODS: dict[str, Method] = {}


def register(row: Method) -> None:
    """Add a method, which recipes can then name. Raises ValueError if the name is taken."""
    if row.name in METHODS:
        raise ValueError(f"method {row.name!r} exists already; choose a name other than {sorted(METHODS)}")
    METHODS[row.name] = row if row.plugin == loading() else replace(row, plugin=loading())


def method(
    name: str,
    *,
    needs_base: bool = True,
    weighted: bool = True,
    normalize: bool = False,
    drop: Drop | None = None,
    fewest: int = 1,
    most: int | None = None,
    uses: tuple[Shared, ...] = (),
    options: type[OwnOptions] | None = None,
    mergekit: Mapping[str, str] | None = None,
    doc: str | None = None,
    source: str = "",
    cost: str = "one read of whole tensors",
) -> Callable[[Function], Function]:
    """Register a function of whole tensors as the method `name`.

    The function is called with the base (float32, or None without `needs_base`), the operands in source order, with
    float32 tensors of the base's shape, and the options (`MergeOptions`; its own are `options.own`); it returns the
    merged tensor [same shape], which is then rounded to the recipe's dtype. On a GPU, tensors are there.
    drop: set it if the function uses `operand.density`, so that a search varies it. uses: the shared options that the
    function reads. options: the class of its own options. doc: what it does, in one line; the first line of the
    function's docstring if left out. The others are fields of `Method`.
    Whole float32 tensors take more memory than the streaming rules of this package; see `Method` for those.
    Raises ValueError if the name is taken, or another argument is none that it could be.
    """

    def add(function: Function) -> Function:
        row = Method(
            name,
            WholeTensor(name, function),
            drop,
            normalize=normalize,
            needs_base=needs_base,
            weighted=weighted,
            fewest=fewest,
            most=most,
            uses=uses,
            options=options,
            mergekit=mergekit,
            doc=_first_line(function) if doc is None else doc,
            source=source,
            cost=cost,
        )
        register(row)
        return function

    return add


def prepared_method(
    name: str,
    *,
    normalize: bool = False,
    fewest: int = 1,
    most: int | None = None,
    one_vector: bool = False,
    options: type[OwnOptions] | None = None,
    mergekit: Mapping[str, str] | None = None,
    doc: str | None = None,
    source: str = "",
    cost: str = "set-up once per tensor, then one read per candidate",
) -> Callable[[Prepare], Prepare]:
    """Register a function that prepares task vectors as the method `name`: the merge is then task arithmetic over them.

    The function is called with the base (float32), the sources' tensors in source order (float32, of the base's
    shape) and the method's own options (None without any); it returns one task vector per source, of the same shape,
    and may use any of the sources for each. The merge is base + lambda x sum of weight x vector, with `normalize`
    divided by the sum of the weights, rounded exactly as `task_arithmetic` is.

    The vectors must depend on nothing else: neither weights, densities, lambda nor seed. So a search, whose candidates
    differ in these alone, may prepare every tensor once and keep the vectors, on a CPU (`Tables.prepared`) or a GPU;
    beside a base of 16 bits they are rounded to its dtype, as its sources are. `one_vector`: the function returns the
    same tensor for all sources, which is then kept once. Raises ValueError as `method` does.
    """

    def add(prepare: Prepare) -> Prepare:
        row = Method(
            name,
            PreparedSum(name, prepare),
            normalize=normalize,
            fewest=fewest,
            most=most,
            uses=("normalize", "lambda"),
            options=options,
            prepare=prepare,
            one_vector=one_vector,
            mergekit=mergekit,
            doc=_first_line(prepare) if doc is None else doc,
            source=source,
            cost=cost,
        )
        register(row)
        return prepare

    return add


def find_method(name: str) -> Method:
    """The method of that name. Raises RecipeError, which lists the choices, if there is none."""
    if name not in METHODS:
        raise RecipeError(f"method: unknown method {abridged(name)!r}; choose from {sorted(METHODS)}")
    return METHODS[name]


def resolve_options(
    method: str,
    normalize: bool | None,
    rescale: Rescale | None,
    lambda_: float,
    epsilon: float,
    gamma: float,
    own: Mapping[str, Any] | None = None,
) -> MergeOptions:
    """The options for a method, with its own defaults in place of None. `own`: those that the method alone has.

    Raises RecipeError if the method is unknown, has no such options of its own, or has no `rescale: per_element`.
    """
    default = find_method(method)
    if rescale == "per_element" and default.drop != "della":
        raise RecipeError(f"options.rescale: {per_element_refused(method)}")
    return MergeOptions(
        normalize=default.normalize if normalize is None else normalize,
        rescale=default.rescale if rescale is None else rescale,
        lambda_=lambda_,
        epsilon=epsilon,
        gamma=gamma,
        own=default.own_options(own or {}),
    )


def per_element_refused(method: str) -> str:
    """Why a method does not take `rescale: per_element`, and what does."""
    names = " and ".join(sorted(name for name, row in METHODS.items() if row.drop == "della"))
    return f"{method}'s elements have no keep-probabilities of their own, so `per_element` is for {names} only"


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0].removesuffix(".")
