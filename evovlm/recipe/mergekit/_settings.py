"""Values of mergekit's parameters: plain numbers, gradients over layers, and conditions on tensor names.

Knows one setting at a time; no recipes and no models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evovlm.methods import METHODS, Method
from evovlm.system.errors import RecipeError

Scope = Mapping[str, Any]  # a `parameters` mapping as written in the file
# Parameters that may differ between models, and those that apply to the whole merge.
PER_MODEL = {"weight", "density", "epsilon", "gamma", "t", "scale"}
WHOLE_MERGE = {"normalize", "rescale", "lambda", "filter_wise"}
# Parameters that mergekit requires, where evovlm has a default.
REQUIRED = {"nearswap": "t"}
# mergekit parameters that evovlm ignores, and why that is safe.
IGNORED = {"int8_mask": "evovlm's masks take so little memory that there is nothing to save"}
# Filters that select one layer regardless of the model's depth; any other digit may match several layers.
ONE_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def shared_methods() -> list[str]:
    """The methods that mergekit has too."""
    return [name for name, row in METHODS.items() if row.mergekit is not None]


def known_parameters(method: str) -> set[str]:
    """The parameters that a file may have: those of any method, and those that are the method's own options here."""
    row = METHODS.get(method)
    return PER_MODEL | WHOLE_MERGE | set((row.mergekit or {}) if row is not None else ())


def takes_part(row: Method) -> bool:
    """Whether mergekit's `base_model` is one of the inputs, not the base of task vectors."""
    return not (row.needs_base or row.may_use_base or row.name == "passthrough")


def own_value(row: Method, name: str, value: Any, theirs: str) -> bool | int | float | str | None:
    """The value of a method's own option, given mergekit's value of its parameter `theirs`; None if there is none.

    Raises RecipeError if it is of another type.
    """
    assert row.options is not None, f"{row.name}: `mergekit` names options, but there are none"
    kind = row.options.model_fields[name].annotation
    if value is None:
        return None
    if kind is bool:
        return flag(value, theirs)
    if kind is float:
        return number(value, theirs)
    if kind is int:
        if (whole := number(value, theirs)).is_integer():
            return int(whole)
        raise RecipeError(f"parameters.{theirs}: {value!r} is not a whole number")
    return str(value)


def resolve(scopes: Iterable[Scope], name: str, tensor: str, t: float) -> float | None:
    """A parameter's value for one tensor, from the first scope with a matching condition; None if none matches.

    `t`: the layer's position in its slice, 0 to 1. Raises RecipeError if a setting is malformed.
    """
    for scope in scopes:
        if name in scope:
            value = _value(scope[name], name, tensor, t)
            if value is not None:
                return value
    return None


def flag(value: Any, name: str) -> bool | None:
    """A value that is true or false for the whole merge, or None. Raises RecipeError for any other value."""
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise RecipeError(f"parameters.{name}: {value!r} must be true or false, the same for the whole merge")


def constant(scopes: Iterable[Scope], name: str) -> Any:
    """A parameter's one value for all tensors, from the first scope that has it; None if none has.

    Gradients and conditions count if all their values are equal. Raises RecipeError if they are not.
    """
    for scope in scopes:
        values, covers = _all_values(scope.get(name), name)
        if any(value != values[0] for value in values) or (values and not covers):
            raise RecipeError(
                f"parameters.{name}: differs between layers or tensors; evovlm has one {name} for the whole merge, so"
                " give one value"
            )
        if values:
            return values[0]
    return None


def _all_values(setting: Any, name: str) -> tuple[list[Any], bool]:
    """The values that a setting gives to any tensor, and whether it covers every tensor."""
    if setting is None or setting == []:
        return [], True
    cases = setting if isinstance(setting, list) else [setting]
    values: list[Any] = []
    covers = False
    for case in cases:
        if not isinstance(case, dict):
            values.append(case)
            covers = True
        elif "value" not in case or not set(case) <= {"value", "filter"}:
            raise RecipeError(f"parameters.{name}: {case!r} is not a condition; give `filter` and `value`")
        else:
            values += _all_values(case["value"], name)[0]
            if case.get("filter") in (None, "*"):
                return values, True
    return values, covers


def mapping(value: Any, name: str) -> dict[str, Any]:
    """A mapping that may be absent. Raises RecipeError, which names the key, for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: must be a mapping of keys to values")
    return value


def number(value: Any, name: str) -> float:
    """A plain number. YAML reads `1e-3` as text, which mergekit accepts as a number.

    Raises RecipeError if it is not a number.
    """
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise RecipeError(f"parameters.{name}: {value!r} is not a number")


def filters(setting: Any) -> Iterator[str]:
    """The tensor-name filters in a setting."""
    for case in setting if isinstance(setting, list) else [setting]:
        if isinstance(case, dict) and case.get("filter") not in (None, "*"):
            yield str(case["filter"])


def has_gradient(setting: Any) -> bool:
    """Whether a setting is interpolated over the layers."""
    if isinstance(setting, dict):
        return has_gradient(setting.get("value"))
    if isinstance(setting, list):
        return any(has_gradient(case) if isinstance(case, dict) else True for case in setting)
    return False


def _value(setting: Any, name: str, tensor: str, t: float) -> float | None:
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return number(setting, name)
    if all(not isinstance(case, dict) for case in setting):
        return _interpolate([number(case, name) for case in setting], t)
    for case in setting:
        if not isinstance(case, dict) or "value" not in case or not set(case) <= {"value", "filter"}:
            raise RecipeError(f"parameters.{name}: {case!r} is not a condition; give `filter` and `value`")
        wanted = case.get("filter")
        if wanted in (None, "*") or str(wanted) in tensor:
            return _value(case["value"], name, tensor, t)
    return None


def _interpolate(points: list[float], t: float) -> float | None:
    if not points:
        return None
    place = t * (len(points) - 1)
    low = int(place)
    high = min(len(points) - 1, low + 1)
    share = place - low
    return (1 - share) * points[low] + share * points[high]
