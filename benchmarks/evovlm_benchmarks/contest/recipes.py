"""The searches that are compared: one per registered method, each with the same models, items and budget.

Knows methods and recipes; runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evovlm.methods import METHODS, Method
from evovlm.recipe.schema import Recipe
from evovlm_benchmarks.studies.plans import DATA, MODELS, Budget

BASE = "zoo:base"
WEIGHT, DENSITY, LAMBDA = [0.0, 1.5], [0.1, 1.0], [0.0, 3.0]
# What else is searched. These methods have no weights, and their papers' numbers belong to other models.
OWN: Mapping[str, Mapping[str, list[float]]] = {
    "nearswap": {"t": [0.0, 0.05]},
    "sce": {"select_topk": [0.1, 1.0]},
    "ram": {"threshold": [0.0, 0.001]},
    "ramplus_tl": {"r": [0.0, 1.0], "alpha": [0.0, 1.0]},
}


def search_of(name: str, budget: Budget, seed: int) -> Recipe:
    """A search by one method, for the whole of the models at once: one weight per source, or what else it has.

    A method with nothing to search has one candidate. One that takes a single source merges `math` into `ja`, which is
    then its base; `passthrough` is `ja` alone.
    """
    row = METHODS[name]
    models = MODELS
    base: str | None = BASE if row.needs_base or row.may_use_base else None
    if row.most == 1:
        models, base = (MODELS[1:], MODELS[0]["model"]) if row.needs_base else (MODELS[:1], None)
    weight, density, options = searched(row)
    content: dict[str, Any] = {
        "kind": "llm",
        "sources": models,
        "owner": models[0]["name"],
        "method": name,
        "search": {
            "trials": budget.trials if weight or density or options else 1,
            "items": budget.items,
            "batch": budget.items,
            # A search needs a gene; a weight that the method does not read changes nothing.
            "weight": weight or (None if options else WEIGHT),
            "density": density,
            "options": options,
            "seed": seed,
        },
        "data": DATA,
    }
    if base is not None:
        content["base"] = {"model": base}
        if "normalize" in row.uses:
            content["options"] = {"normalize": False}
    return Recipe.model_validate(content)


def searched(row: Method) -> tuple[list[float] | None, list[float] | None, dict[str, list[float]]]:
    """The bounds of weights, densities and options; None or empty for what is not searched.

    Prepared methods whose weights act by their mean have `lambda` instead, the papers' own scale.
    """
    by_mean = row.prepare is not None and row.name != "tsv_m"
    weight = WEIGHT if row.weighted and not by_mean else None
    options = {"lambda": LAMBDA} if by_mean else dict(OWN.get(row.name, {}))
    return weight, DENSITY if row.drop is not None else None, options
