"""A visitor's own recipe: weights and densities per source and layer group, changed one slider at a time.

Knows recipes; no models and no components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from evovlm.methods import METHODS
from evovlm.recipe.schema import WHOLE, Recipe, SourceParameters, value_at
from evovlm_app.catalogue import MixableRecipe
from evovlm_app.limits import Refusal

# source -> "weight" or "density" -> layer group -> value
Parameters = dict[str, dict[str, dict[str, float]]]
ALL = "*"  # every layer group at once
HIGHEST_WEIGHT = 2.0
MOST_SEED = 2**31 - 1


def methods_for(mixable: MixableRecipe) -> list[str]:
    """The methods that fit the recipe's models: slerp takes two sources, some methods need a base.

    Those that prepare task vectors, which may take hours, are offered only to the recipe that names them.
    """
    recipe = mixable.recipe
    fits = []
    for name, method in METHODS.items():
        stacked = name == "passthrough"
        baseless = method.needs_base and recipe.base is None
        slow = method.prepare is not None and name != recipe.method
        if method.takes(len(recipe.sources)) and not (stacked or baseless or slow):
            fits.append(name)
    return fits


def parameters_of(recipe: Recipe, groups: Sequence[str]) -> Parameters:
    """A recipe's weights and densities, expanded to every layer group."""
    return {
        source: {
            name: {group: value_at(getattr(recipe.of(source), name), group, 1.0) for group in groups}
            for name in ("weight", "density")
        }
        for source in recipe.source_names
    }


def with_value(parameters: Parameters, source: str, name: str, group: str, value: float) -> Parameters:
    """A copy of the parameters with one value changed, in one layer group or in ALL."""
    changed = {own: {key: dict(values) for key, values in by_name.items()} for own, by_name in parameters.items()}
    groups = list(changed[source][name]) if group == ALL else [group]
    changed[source][name].update(dict.fromkeys(groups, round(float(value), 4)))
    return changed


def shown_value(parameters: Parameters, source: str, name: str, group: str) -> float:
    """The value a slider shows: the group's value, or the mean over groups for ALL."""
    values = parameters[source][name]
    chosen = list(values.values()) if group == ALL else [values[group]]
    return round(math.fsum(chosen) / len(chosen), 4)


def candidate(mixable: MixableRecipe, parameters: Any, method: str, seed: float) -> Recipe:
    """The recipe from a visitor's choices. Raises Refusal for an unknown method or unusable parameters or seed."""
    recipe = mixable.recipe
    allowed = methods_for(mixable)
    if method not in allowed:
        raise Refusal("unknown_method", choices=", ".join(allowed))
    try:
        if set(parameters) != set(recipe.source_names):
            raise Refusal("bad_parameters")
        chosen = {source: _checked(parameters[source], mixable.groups) for source in recipe.source_names}
        number = int(seed)
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError, OverflowError):
        raise Refusal("bad_parameters") from None
    if not 0 <= number <= MOST_SEED:
        raise Refusal("bad_parameters")
    return recipe.by(method).model_copy(update={"parameters": chosen, "seed": number})


def _checked(given: dict[str, Any], groups: Sequence[str]) -> SourceParameters:
    """Parameters of one source, given as one number each or one number per layer group.

    Equal values in all groups are reduced to one number. Raises ValueError or a ValidationError for unusable ones.
    """
    plain: dict[str, Any] = {}
    for name in ("weight", "density"):
        value = given[name]
        if isinstance(value, dict):
            if set(value) != set(groups):
                raise ValueError(f"{name}: the keys are not the recipe's layer groups")
            same = len(set(value.values())) == 1 and list(groups) != [WHOLE]
            value = next(iter(value.values())) if same or list(groups) == [WHOLE] else value
        plain[name] = value
    parameters = SourceParameters.model_validate(plain)
    if any(abs(value_at(parameters.weight, group, 1.0)) > 10 for group in groups):
        raise ValueError("weight: must be between -10 and 10")
    return parameters
