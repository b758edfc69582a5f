"""The options in a recipe that only its method has: checked against the method's schema, and kept without defaults.

Knows the registry of methods, which is loaded only for a recipe that has such options: it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from evovlm.methods.options import SHARED
from evovlm.system.plain_text import abridged

if TYPE_CHECKING:
    from evovlm.methods import Method


def without_defaults(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options that differ from the method's defaults, so that a default changes no recipe.

    Raises ValidationError for each option that the method does not have, or whose value it does not take.
    """
    methods: Mapping[str, Method] = import_module("evovlm.methods").METHODS
    row = methods.get(method)
    schema = None if row is None else row.options
    names = () if schema is None else tuple(schema.model_fields)
    unknown = [name for name in given if name not in names]
    mistakes = [_mistake(name, given[name], _unknown(name, method, row, names)) for name in unknown]
    kept: dict[str, Any] = {}
    if schema is not None:
        try:
            read = schema.model_validate({name: value for name, value in given.items() if name in names})
            kept = read.model_dump(mode="json", exclude_defaults=True)
        except ValidationError as error:
            mistakes += [_mistake(str(one["loc"][0]), one["input"], one["msg"]) for one in error.errors()]
    if mistakes:
        raise ValidationError.from_exception_data("options", mistakes)
    return kept


def _unknown(name: str, method: str, row: Method | None, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, (*SHARED, *names), n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    if row is None:
        return f"unknown key, for there is no method {abridged(method)!r}; all methods have {sorted(SHARED)}"
    return f"unknown key; {method} has {sorted((*SHARED, *names))}"


def _mistake(name: str, value: Any, text: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("option", "{text}", {"text": text}), loc=(name,), input=value)
