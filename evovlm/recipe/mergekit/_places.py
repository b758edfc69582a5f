"""Where a mergekit file's parameters stand, so that a message names the key and line that the user wrote.

Knows the shape of the file and of a setting; not what parameters mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from evovlm.recipe.mergekit._settings import PER_MODEL
from evovlm.system.bounded_yaml import Loc
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged

NUMBERS = PER_MODEL | {"lambda"}
MAY_BE_NULL = {"lambda", "epsilon", "gamma"}  # one for the whole merge: null is the same as leaving them out
MOST_SHOWN = 60  # characters of a value


def check_settings(content: Any) -> None:
    """Raise RecipeError, naming the key, for a parameter that holds anything but finite numbers and conditions."""
    for place, setting in _settings(content):
        name = place[-1]
        if name in NUMBERS and not (setting is None and name in MAY_BE_NULL):
            _check(setting, place)


def key_of_number(content: Any, name: str, value: Any) -> str | None:
    """The key under which a number stands that a recipe calls `name`; None if it was computed, or stands nowhere."""
    names = (name, "t") if name == "weight" else (name,)  # slerp's `t` is a weight in a recipe
    found = [place for place, setting in _settings(content) if place[-1] in names and value in _numbers(setting)]
    return _dotted(found[0]) if found else None


def key_of_filter(content: Any, text: str) -> str:
    """The key of the first parameter that has a filter."""
    found = [place for place, setting in _settings(content) if text in _filters(setting)]
    return _dotted(found[0]) if found else "parameters"


def key_of_unset(content: Any, name: str, model: str, problem: str) -> tuple[str, str]:
    """The key of a parameter that nothing gives a model: where it stands (as an empty list), or belongs; and why.

    A base that no list names is one more model with mergekit, and cannot have parameters of its own.
    """
    listed = [place for place, named in _models(content) if named == model]
    if not listed and isinstance(content, dict) and content.get("base_model") == model:
        return "base_model", (
            f"{model} is not among the models, counts as one of them with this method, and has no `{name}`; list it"
            f" with its `{name}`, or leave `base_model` out"
        )
    others = [place for place, named in _models(content) if named != model]
    found = [place for place, _ in _settings(content) if place[-1] == name]
    own = [place for place in found if not any(place[: len(other)] == other for other in others)]
    at = own or [(*place, "parameters", name) for place in listed] or [("parameters", name)]
    return _dotted(at[0]), problem


def _models(here: Any, place: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """Every entry that names a model, with its place and the name."""
    parts = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
    for key, part in parts:
        if isinstance(part, dict) and "model" in part:
            yield (*place, key), part["model"]
        yield from _models(part, (*place, key))


def _settings(here: Any, place: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """Every parameter of the file, of models, slices, modules and the whole, with its place."""
    parts = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
    for key, part in parts:
        if key == "parameters" and isinstance(part, dict):
            yield from (((*place, key, name), setting) for name, setting in part.items())
        else:
            yield from _settings(part, (*place, key))


def _check(setting: Any, place: Loc) -> None:
    if isinstance(setting, dict):
        if "value" not in setting or not set(setting) <= {"value", "filter"}:
            raise RecipeError(f"{_dotted(place)}: {_shown(setting)} is not a condition; give `filter` and `value`")
        if isinstance(setting.get("filter"), (dict, list, bool)):
            raise RecipeError(f"{_dotted(place)}.filter: must be a text, a part of tensors' names")
        _check(setting["value"], (*place, "value"))
    elif isinstance(setting, list):
        if any(isinstance(case, dict) for case in setting) and not all(isinstance(case, dict) for case in setting):
            plain = next(number for number, case in enumerate(setting) if not isinstance(case, dict))
            text = f"{_shown(setting[plain])} is not a condition; give `filter` and `value`"
            raise RecipeError(f"{_dotted((*place, plain))}: {text}")
        for number, case in enumerate(setting):
            if isinstance(case, list):
                raise RecipeError(f"{_dotted((*place, number))}: {_shown(case)} is not a number")
            _check(case, (*place, number))
    else:
        try:
            sound = not isinstance(setting, bool) and setting is not None and math.isfinite(float(setting))
        except (ValueError, OverflowError):
            sound = False
        if not sound:
            raise RecipeError(f"{_dotted(place)}: {_shown(setting)} is not a finite number")


def _numbers(setting: Any) -> Iterator[Any]:
    parts = setting.values() if isinstance(setting, dict) else setting if isinstance(setting, list) else None
    if parts is None:
        yield setting
        if isinstance(setting, str):
            try:
                yield float(setting)
            except ValueError:
                return
    for part in parts or ():
        yield from _numbers(part)


def _filters(setting: Any) -> Iterator[str]:
    if isinstance(setting, dict):
        yield str(setting.get("filter"))
        yield from _filters(setting.get("value"))
    for case in setting if isinstance(setting, list) else ():
        yield from _filters(case)


def _dotted(place: Loc) -> str:
    return ".".join(map(str, place))


def _shown(value: Any) -> str:
    return abridged(repr(value), MOST_SHOWN)
