"""The methods of this package: one row each with its rule, requirements, defaults and what is said of it.

Knows rules but no tensors. The defaults are those of mergekit 0.1.x, so that users can compare. To add a method, write
its rule and a row here, or decorate a function in a module of its own that is imported here (docs/extending.md).
"""

from __future__ import annotations

from importlib import import_module

from evovlm.methods._registry import (
    METHODS,
    find_method,
    method,
    per_element_refused,
    prepared_method,
    register,
    resolve_options,
)
from evovlm.methods._task_vectors import TaskVectorSum
from evovlm.methods.consensus import Nearswap, Ram, RamPlus, Sce, nearswap, ram, ramplus_tl, sce
from evovlm.methods.definition import Method
from evovlm.methods.fusion import arcee_fusion
from evovlm.methods.interpolate import ModelStock, copy_single, linear, model_stock, slerp
from evovlm.methods.options import Drop, Rescale, Shared
from evovlm.methods.spherical import Karcher, Multislerp, Nuslerp, karcher, multislerp, nuslerp

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
        options=ModelStock,
        mergekit={"filter_wise": "filter_wise"},
        doc="go from the base towards the sources' average, as far as the angle between task vectors says; no weights",
        source="arXiv:2403.19522",
        cost="one read per candidate; two more for dot products, on a GPU once in a search",
    ),
    Method(
        "nuslerp",
        nuslerp,
        needs_base=False,
        may_use_base=True,
        fewest=2,
        most=2,
        options=Nuslerp,
        mergekit={"nuslerp_flatten": "flatten", "nuslerp_row_wise": "row_wise"},
        doc="turn the first source (with a base, its task vector) towards the second, by t = w2 / (w1 + w2)",
        source="mergekit 0.1",
        cost="one read per candidate, and two for dot products",
    ),
    Method(
        "multislerp",
        multislerp,
        needs_base=False,
        may_use_base=True,
        options=Multislerp,
        mergekit={"normalize_weights": "normalize_weights", "eps": "eps"},
        doc="the weighted mean direction of the sources (with a base, of their task vectors) on the sphere",
        source="goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        cost="one read per candidate, and two for dot products",
    ),
    Method(
        "karcher",
        karcher,
        needs_base=False,
        weighted=False,
        options=Karcher,
        mergekit={"max_iter": "max_iter", "tol": "tol"},
        doc="the direction that is closest to all sources on the sphere; no weights",
        source="arXiv:2603.04972",
        cost="one read per candidate, and two for dot products",
    ),
    Method(
        "sce",
        sce,
        weighted=False,
        options=Sce,
        mergekit={"select_topk": "select_topk"},
        doc="keep the elements that vary most between sources, and add those that have the sign of the sum, weighted by"
        " the mean square of each task vector; no weights",
        source="arXiv:2408.07990",
        cost="three reads per candidate, four with `select_topk`, and then 4 bytes of memory per element",
    ),
    Method(
        "nearswap",
        nearswap,
        most=1,
        weighted=False,
        options=Nearswap,
        mergekit={"t": "t"},
        doc="move each element of the base towards the source, by `t` at most; no weights",
        source="hf.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        cost="one read per candidate",
    ),
    Method(
        "arcee_fusion",
        arcee_fusion,
        most=1,
        weighted=False,
        mergekit={},
        doc="take from the source the elements whose change matters most, and keep the base's others; no weights",
        source="Arcee AI",
        cost="two reads per candidate, a sort of every tensor, and 8 bytes of memory per element",
    ),
    Method(
        "ram",
        ram,
        weighted=False,
        options=Ram,
        mergekit={"epsilon": "threshold"},
        doc="add the mean of the task vectors that are active, element by element; no weights",
        source="arXiv:2601.13572",
        cost="one read per candidate",
    ),
    Method(
        "ramplus_tl",
        ramplus_tl,
        weighted=False,
        options=RamPlus,
        mergekit={"epsilon": "threshold", "r": "r", "alpha": "alpha"},
        doc="as `ram`, with elements that are active in one source alone scaled up; no weights",
        source="arXiv:2601.13572, with a factor for each tensor",
        cost="two reads per candidate",
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
