"""The study's header: the settings a study was started with, and whether a command continues the same study.

Knows the recipe's schema, generation settings and the settings of races; no searchers and no models. Recipes are
compared as the current schema reads them, so a key that did not exist when a study was started counts as its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from evovlm.recipe.schema import Recipe, Search
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.system.errors import StudyError
from evovlm.tasks import Generation

# Entries that must not change during a study; the others are informative only. `sets` are the hashes of the items, and
# how those of validation and test are asked and scored; `weights` the hashes of the models' files.
BINDING = ("recipe", "genes", "search", "items", "race", "eight_bit", "generation", "rules", "sets", "weights")
# Entries that are absent if they have this value.
ABSENT: Mapping[str, Any] = {"race": None, "eight_bit": False}
# What it means that a hash has changed.
MEANING = {"content": "its questions, images or references have changed", "weights": "the model's files have changed"}
COUNTED = ("items", "content")  # of a set: they depend on the number of items
LONG = 60  # characters of a value that an error shows
T = TypeVar("T")
Tell = Callable[[str], None]


def unheard(text: str) -> None:
    """A `tell` that shows nothing."""


class _Items(BaseModel):
    ids: list[str]
    task: str = ""


# An entry of another shape is damaged, and counts as missing.
_SHAPES: Mapping[str, TypeAdapter[Any]] = {
    "recipe": TypeAdapter(dict[str, Any]),
    "genes": TypeAdapter(list[str]),
    "search": TypeAdapter(dict[str, Any]),
    "items": TypeAdapter(_Items),
    "race": TypeAdapter(dict[str, Any] | None),
    "eight_bit": TypeAdapter(bool),
    "generation": TypeAdapter(dict[str, Any]),
    "rules": TypeAdapter(dict[str, Any]),
    "sets": TypeAdapter(dict[str, dict[str, Any]]),
    "weights": TypeAdapter(dict[str, str]),
    "data": TypeAdapter(dict[str, Any] | None),
    "versions": TypeAdapter(dict[str, str]),
    "hardware": TypeAdapter(str),
}


def sound_header(folder: Path, tell: Tell = unheard) -> dict[str, Any]:
    """The study's header without entries that are damaged; `tell` is called with a sentence about each.

    Raises StudyError if the file is missing, damaged as a whole, or of a newer format.
    """
    header = study_log.read_header(folder)
    for key, shape in _SHAPES.items():
        if key in header:
            try:
                shape.validate_python(header[key], strict=True)
            except ValidationError as error:
                tell(f"{folder / study_log.HEADER}: `{key}` is damaged ({error.errors()[0]['msg']}); left out")
                del header[key]
    return header


def refuse_changes(folder: Path, header: dict[str, Any], keys: Sequence[str] = BINDING) -> dict[str, Any]:
    """Compare the header of the study in `folder` with the one that a command would write, or only some `keys` of it.

    Entries that `header` lacks are not compared. Returns those that the study's own header lacks, with their value in
    `header`: an earlier version did not write them, or they are damaged. Raises StudyError with the first key that
    differs and both values, or if the current schema cannot read the header.
    """
    known = sound_header(folder)
    if "recipe" not in known:  # nothing else says what the logged genomes mean
        raise StudyError(f"{folder / study_log.HEADER}: its `recipe` is missing or damaged; restore the file")
    lacking = {}
    for key in keys:
        if key not in header and key not in ABSENT:
            continue
        now = header.get(key, ABSENT.get(key))
        if key not in known and key not in ABSENT:
            lacking[key] = now
            continue
        then = known.get(key, ABSENT.get(key))
        if then != now:
            added = _compare(folder, known, header, key)
            lacking |= {key: added} if added else {}
    return lacking


def _compare(folder: Path, known: dict[str, Any], header: dict[str, Any], key: str) -> Any:
    """Raise StudyError if an entry differs. Returns it with what `known` lacks in it; None if that is nothing."""
    then, now = _as_read_today(folder, known, key), _as_read_today(folder, header, key)
    whole = None
    if key in ("rules", "sets"):
        # A key that an earlier version did not write is no difference, nor is another number of items to be judged.
        counts = _other_counts(then, now) if key == "sets" else {}
        then = _joined(_joined(counts, then), now)
        whole = then if then != known[key] else None
    if then != now:
        where, was, is_now = _first_difference(key, then, now)
        meaning = MEANING.get(where.partition(".")[0]) or MEANING.get(where.rpartition(".")[2])
        raise StudyError(
            f"{folder / study_log.HEADER}: this study was started with another `{where}` ({was}; now {is_now})"
            f"{f': {meaning}' if meaning else ''}; resume with the original command, or choose a new folder with --out"
        )
    return whole


def _other_counts(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Of sets that now have another number of items: the number, and the hash of those items."""
    return {
        name: {key: own[key] for key in COUNTED if key in own}
        for name, own in now.items()
        if name in then and own.get("items") != then[name].get("items")
    }


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """`first`, with the keys that only `second` has; also in the mappings inside."""
    found = second | first
    for key, own in first.items():
        if isinstance(own, dict) and isinstance(second.get(key), dict):
            found[key] = _joined(own, second[key])
    return found


def recipe_of(folder: Path, header: dict[str, Any]) -> Recipe:
    """The recipe that the study in `folder` searches.

    Its number of trials, which the header does not fix, is the schema's default. Raises StudyError if the current
    schema cannot read the recipe.
    """
    content = dict(header.get("recipe") or {})
    if content.get("search"):
        content["search"] = _without_trials(content["search"])
    return _read(folder, header, "recipe", lambda: Recipe.model_validate(content))


def _as_read_today(folder: Path, header: dict[str, Any], key: str) -> Any:
    """A header entry with all keys of the current schema; entries that are no recipe or settings are unchanged."""
    content = header.get(key, ABSENT.get(key))
    if key == "generation":
        return _defaults(Generation) | (content or {})
    if key == "recipe":
        return _identities(recipe_of(folder, header).model_dump(mode="json", by_alias=True))
    if key == "search" and content is not None:
        search = _read(folder, header, key, lambda: Search.model_validate(_without_trials(content)))
        return search.model_dump(mode="json", by_alias=True)
    if key == "race" and content is not None:
        return asdict(_read(folder, header, key, lambda: RaceSettings(**content)))
    return content


def _read(folder: Path, header: dict[str, Any], key: str, read: Callable[[], T]) -> T:
    """Parse an entry with `read`. Raises StudyError with the version that the study was started with."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors()[0]
        text = f"{'.'.join(map(str, (key, *first['loc'])))}: {first['msg'].removeprefix('Value error, ')}"
    except TypeError as error:  # a dataclass raises it for an unknown key
        text = f"{key}: {str(error).removeprefix('RaceSettings.__init__() ')}"
    versions = header.get("versions") or {}
    started = f"{versions.get('evovlm', 'unknown')}, commit {versions.get('commit', 'unknown')}"
    raise StudyError(
        f"{folder / study_log.HEADER}: this version of evovlm cannot read the study's settings ({text}); the study was"
        f" started with evovlm {started}: use that version, restore the file, or start a new study in another folder"
    )


def _identities(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe in which a source that has an `identity` has no other path: its folder may be moved."""
    for source in recipe["sources"]:
        identity = source.pop("identity", None)
        source["model"] = source["model"] if identity is None else identity
    return recipe


def _defaults(settings: type) -> dict[str, Any]:
    """The defaults of a dataclass, as JSON data."""
    found = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    loaded: dict[str, Any] = json.loads(json.dumps(found))
    return loaded


def _without_trials(search: dict[str, Any]) -> dict[str, Any]:
    """A stored search without the number of trials, which may change: a study can be extended."""
    return {key: value for key, value in search.items() if key != "trials"}


def _first_difference(where: str, then: Any, now: Any) -> tuple[str, str, str]:
    """The first place where two entries differ, and both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *now]:
            if then.get(key) != now.get(key):
                return _first_difference(f"{where}.{key}", then.get(key), now.get(key))
    return where, _shown(then), _shown(now)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else f"{text[:LONG]}..."
