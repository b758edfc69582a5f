"""Describes a method to users: what it needs and which options it takes, read from its row in the registry.

Knows rows; no particular method, no console and no page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from evovlm.methods.definition import Method
from evovlm.methods.options import MergeOptions, Rescale, Shared

SHARED_DOCS: dict[Shared, str] = {
    "normalize": "divide by the sum of the weights",
    "rescale": "the factor for the elements that a drop leaves",
    "lambda": "the factor of what is added to the base",
    "epsilon": "half the spread of the elements' keep-probabilities",
    "gamma": "the share of largest elements that is dropped",
}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
# pydantic's bounds: the attribute of the constraint, and how it is written.
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class OptionInWords:
    """One option of a method. own: whether it is the method's alone. takes: which values it takes, in words."""

    name: str
    default: bool | int | float | str
    takes: str
    doc: str
    own: bool


def options_in_words(row: Method) -> list[OptionInWords]:
    """The options that a method reads: the shared ones, then its own."""
    return [*_shared(row), *_own(row)]


def shown_default(option: OptionInWords) -> str:
    """An option's default as YAML has it."""
    return str(option.default).lower() if isinstance(option.default, bool) else str(option.default)


def needs_in_words(row: Method) -> str:
    """What a method needs, such as `a base, at least one source`."""
    base = "a base, " if row.needs_base else "a base or none, " if row.may_use_base else ""
    return base + row.sources_in_words


def described(row: Method) -> dict[str, Any]:
    """All of it as JSON values, for programs."""
    return {
        "name": row.name,
        "doc": row.doc,
        "base": "needed" if row.needs_base else "used if given" if row.may_use_base else "unused",
        "sources": {"fewest": row.fewest, "most": row.most},
        "weights": row.weighted,
        "densities": row.drop is not None,
        "options": [vars(option) for option in options_in_words(row)],
        "cost": row.cost,
        "source": row.source,
        "mergekit": row.mergekit is not None,
    }


def _shared(row: Method) -> Iterator[OptionInWords]:
    plain = MergeOptions()
    factors = [name for name in get_args(Rescale) if name != "per_element" or row.drop == "della"]
    values: dict[Shared, tuple[bool | float | str, str]] = {
        "normalize": (row.normalize, KINDS[bool]),
        "rescale": (row.rescale, _choices(factors)),
        "lambda": (plain.lambda_, KINDS[float]),
        "epsilon": (plain.epsilon, "a number, at least 0, below 1"),
        "gamma": (plain.gamma, "a number, at least 0, below 1"),
    }
    for name in row.uses:
        yield OptionInWords(name, *values[name], SHARED_DOCS[name], own=False)


def _own(row: Method) -> Iterator[OptionInWords]:
    for name, field in row.options.model_fields.items() if row.options is not None else ():
        kind: Any = field.annotation
        takes = _choices(list(get_args(kind))) if get_origin(kind) is not None else KINDS[kind]
        for constraint in field.metadata:
            for attribute, words in BOUNDS.items():
                if (bound := getattr(constraint, attribute, None)) is not None:
                    takes += f", {words} {bound:g}"
        yield OptionInWords(name, field.default, takes, field.description or "", own=True)


def _choices(names: list[str]) -> str:
    return " or ".join(", ".join(f"`{name}`" for name in names).rsplit(", ", 1))
