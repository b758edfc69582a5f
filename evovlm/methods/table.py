"""The methods of this package: one row each with its rule, requirements, defaults and what is said of it.

Knows rules but no tensors. The defaults are those of mergekit 0.1.x, so that users can compare. To add a method, write
its rule and a row here, or decorate a function in a module of its own that is imported here (docs/extending.md).
"""

from __future__ import annotations

from importlib import import_module

from evovlm.methods._task_vectors import TaskVectorSum
from evovlm.methods.definition import Method
from evovlm.methods.interpolate import copy_single, linear, model_stock, slerp
from evovlm.methods.options import Drop, Rescale, Shared
from evovlm.methods.registry import (
    METHODS,
    find_method,
    method,
    per_element_refused,
    prepared_method,
    register,
    resolve_options,
)

__all__ = [
    "METHODS",
    "find_method",
    "method",
    "per_element_refused",
    "prepared_method",
    "register",
    "resolve_options",
]

# By kind of drop: how often sums of task vectors read their inputs, and the shared options that they use.
BY_MAGNITUDE = (
    "one read per candidate, on a CPU one more for the mask and one for `rescale: l1`; before these the order of"
    " magnitudes is found, once in a search"
)
COSTS: dict[Drop | None, str] = {
    None: "one read per candidate",
    "random": "one read per candidate; for `rescale: l1` one more, once in a search",
    "magnitude": BY_MAGNITUDE,
    "breadcrumbs": BY_MAGNITUDE,
    "della": "two reads per candidate; every row is ranked before them, on a CPU once in a search",
}
USES: dict[Drop | None, tuple[Shared, ...]] = {
    None: (),
    "random": ("rescale",),
    "magnitude": ("rescale",),
    "breadcrumbs": ("rescale", "gamma"),
    "della": ("rescale", "epsilon"),
}


def _sum(
    name: str,
    doc: str,
    source: str,
    drop: Drop | None = None,
    *,
    elect: bool = False,
    rescale: Rescale = "none",
    normalize: bool = False,
    theirs: bool = True,
) -> Method:
    """A method that drops, rescales, weights, elects signs, sums, normalises and adds to the base."""
    return Method(
        name,
        TaskVectorSum(drop, elect),
        drop,
        elect,
        rescale,
        normalize,
        uses=("normalize", "lambda", *USES[drop]),
        mergekit={} if theirs else None,
        doc=doc,
        source=source,
        cost=COSTS[drop],
    )


ROWS = (
    Method(
        "linear",
        linear,
        normalize=True,
        needs_base=False,
        uses=("normalize",),
        mergekit={},
        doc="the weighted average of the sources",
        source="arXiv:2203.05482",
        cost="one read per candidate",
    ),
    Method(
        "slerp",
        slerp,
        needs_base=False,
        fewest=2,
        most=2,
        mergekit={},
        doc="turn the first source towards the second on the arc between them, by t = w2 / (w1 + w2)",
        source="mergekit 0.1",
        cost="one read per candidate; two more for dot products, on a GPU once in a search",
    ),
    _sum("task_arithmetic", "add the weighted task vectors to the base", "arXiv:2212.04089"),
    _sum(
        "ties",
        "drop the smallest elements, and add those that have the sign of the weighted sum",
        "arXiv:2306.01708",
        "magnitude",
        elect=True,
        normalize=True,
    ),
    _sum("dare_linear", "drop elements at random, and add what is left", "arXiv:2311.03099", "random", rescale="l1"),
    _sum(
        "dare_ties",
        "drop elements at random, and add those that have the sign of the weighted sum",
        "arXiv:2311.03099",
        "random",
        elect=True,
        rescale="l1",
    ),
    # Differs from `dare_linear` only in which elements are dropped, so that comparing the two shows whether the drop
    # has to be random.
    _sum(
        "magnitude",
        "drop the smallest elements, and add what is left",
        "`dare_linear` with another drop",
        "magnitude",
        rescale="l1",
        theirs=False,
    ),
    _sum(
        "della",
        "drop elements at random, small ones more often, and add those that have the sign of the weighted sum",
        "arXiv:2406.11617",
        "della",
        elect=True,
        rescale="l1",
        normalize=True,
    ),
    _sum(
        "della_linear",
        "drop elements at random, small ones more often, and add what is left",
        "arXiv:2406.11617",
        "della",
        rescale="l1",
    ),
    _sum("breadcrumbs", "drop the largest and the smallest elements", "arXiv:2312.06795", "breadcrumbs"),
    _sum(
        "breadcrumbs_ties",
        "drop the largest and the smallest elements, and add those that have the sign of the weighted sum",
        "arXiv:2312.06795",
        "breadcrumbs",
        elect=True,
    ),
    Method(
        "model_stock",
        model_stock,
        fewest=2,
        weighted=False,
        mergekit={},
        doc="go from the base towards the sources' average, as far as the angle between task vectors says; no weights",
        source="arXiv:2403.19522",
        cost="one read per candidate; two more for dot products, on a GPU once in a search",
    ),
    Method(
        "passthrough",
        copy_single,
        needs_base=False,
        weighted=False,
        most=1,
        mergekit={},
        doc="copy one source, or stack layers of several (`slices`)",
        source="mergekit 0.1",
        cost="one read",
    ),
)
for row in ROWS:
    register(row)
# Modules that register their own rows, after those above.
for module in ("tsv", "isotropic", "knots", "wudi"):
    import_module(f"evovlm.methods.{module}")
