"""mergekit's references to models, and the one base model of a file.

Knows how a model is written; does not look for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evovlm.system.errors import RecipeError

Model = tuple[str, str | None]  # path or hub id, revision


def parse_model(value: Any, key: str) -> Model:
    """Parse mergekit's model reference: `owner/name`, `owner/name@revision`, or a mapping with path and revision.

    Raises RecipeError, which names `key`, if it is malformed or uses a LoRA adapter or another architecture.
    """
    if isinstance(value, dict):
        if value.get("lora") or value.get("override_architecture"):
            raise RecipeError(f"{key}: `lora` and `override_architecture` are not supported; merge the adapter first")
        inner = value.get("model", value)
        if isinstance(inner, dict) and isinstance(inner.get("path"), str):
            revision = inner.get("revision")
            if not isinstance(revision, (str, type(None))):
                raise RecipeError(f"{key}: the revision {revision!r} is not text; put it in quotes")
            return inner["path"], revision
        value = inner
    if not isinstance(value, str):
        raise RecipeError(f"{key}: {value!r} is not a model; give a hub id or a folder")
    if "+" in value:
        raise RecipeError(f"{key}: {value!r} names a LoRA adapter; merge it into its model first")
    path, _, revision = value.partition("@")
    return path, revision or None


def name_of(model: Model) -> str:
    """A model reference as mergekit writes it."""
    return f"{model[0]}@{model[1]}" if model[1] else model[0]


def one_base(content: Mapping[str, Any], place: str) -> Model | None:
    """The base model, which may be named at the top, by the module or by every slice; None if there is none.

    `place`: what keys of slices are preceded by in the file. Raises RecipeError if slices name different ones.
    """
    base = content.get("base_model")
    top = parse_model(base, "base_model") if base is not None else None
    slices = content.get("slices")
    bases: list[Model | None] = []
    for index, part in enumerate(slices if isinstance(slices, list) else []):
        given = part.get("base_model") if isinstance(part, dict) else None
        key = f"{place}slices.{index}.base_model"
        bases.append(top if given is None else parse_model(given, key))
        if bases[-1] != bases[0]:
            here, first = (name_of(one) if one is not None else "none" for one in (bases[-1], bases[0]))
            raise RecipeError(f"{key}: {here} here and {first} in the first slice; evovlm has one base: name the same")
    return bases[0] if bases else top
