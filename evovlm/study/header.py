"""The study's header: the settings a study was started with, and whether a command continues the same study.

Knows the recipe's schema, generation settings and the settings of races; no searchers and no models. Recipes are
compared as the current schema reads them, so a key that did not exist when a study was started counts as its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Search
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.study._difference import first_difference
from evovlm.system.errors import StudyError
from evovlm.tasks import Generation

# Entries that must not change during a study; the others are informative only. `self_check` and `dtype` decide by which
# path and how finely models are computed; `sets` are the hashes of the items, and how those of validation and test are
# asked and scored; `weights` the hashes of the models' files.
BINDING = (
    *("recipe", "genes", "search", "items", "race", "eight_bit", "self_check", "dtype"),
    *("generation", "rules", "sets", "weights"),
)
# Entries that are absent if they have this value.
ABSENT: Mapping[str, Any] = {"race": None, "eight_bit": False}
# What it means that a value has changed: by its key, or by its key and the last part of its place.
MEANING = {
    "sets content": "its questions, images or references have changed",
    "sets items": "its data have changed",
    "weights": "the model's files have changed",
    "self_check": "without the check, models may answer by another path; give or leave out --no-self-check as then",
    "dtype": "on another --device models compute in another dtype, and answer otherwise",
}
COUNTED = ("asked", "items", "content")  # of a set: they depend on the number of items that are asked for
T = TypeVar("T")
Tell = Callable[[str], None]
# (name of a set, number of items) -> the hash of that many of its items as the data are now.
ContentOf = Callable[[str, int], str]


def unheard(text: str) -> None:
    """A `tell` that shows nothing."""


@dataclass(frozen=True)
class Gain:
    """What the header of a resumed study gains: `entries` to be written.

    `lacked`: their keys, as far as the header did not have them. `recounted`: sentences on sets of which another number
    of items is asked than before.
    """

    entries: Mapping[str, Any]
    lacked: tuple[str, ...] = ()
    recounted: tuple[str, ...] = ()


class _Items(BaseModel):
    ids: list[str]
    task: str = ""


class _Data(BaseModel):
    search: str | None = None
    validation: str | None = None
    test: str | None = None
    preset: str | None = None
    revisions: dict[str, str] = {}


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
    "data": TypeAdapter(_Data | None),
    "self_check": TypeAdapter(bool),
    "dtype": TypeAdapter(str),
    "device": TypeAdapter(str),
    "digest": TypeAdapter(str),
    "root": TypeAdapter(str),
    "switch": TypeAdapter(int),
    "revisions": TypeAdapter(dict[str, dict[str, str]]),
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


def refuse_changes(
    folder: Path,
    header: dict[str, Any],
    keys: Sequence[str] = BINDING,
    content_of: ContentOf | None = None,
) -> Gain:
    """Compare the header of the study in `folder` with the one that a command would write, or only some `keys` of it.

    Entries that `header` lacks are not compared. Returns those that the study's own header lacks, with their value in
    `header`: an earlier version did not write them, or they are damaged. Another number of items to be judged is no
    difference if `content_of` gives the same hash for the number of before. Raises StudyError with the first key that
    differs and both values, or if the current schema cannot read the header.
    """
    known = sound_header(folder)
    if "recipe" not in known:  # nothing else says what the logged genomes mean
        raise StudyError(f"{folder / study_log.HEADER}: its `recipe` is missing or damaged; restore the file")
    entries: dict[str, Any] = {}
    lacked: list[str] = []
    recounted: tuple[str, ...] = ()
    for key in keys:
        if key not in header and key not in ABSENT:
            continue
        now: Any = header.get(key, ABSENT.get(key))
        if key not in known and key not in ABSENT:
            entries[key] = now
            lacked.append(key)
            continue
        then: Any = known.get(key, ABSENT.get(key))
        if then == now:
            continue
        if key == "sets":
            then, recounted = _recounted(folder, then, now, content_of)
        added = _compare(folder, known | {key: then}, header, key)
        if added:
            lacked.append(key)
        if added or then != known.get(key, ABSENT.get(key)):
            entries[key] = added or then
    return Gain(entries, tuple(lacked), recounted)


def _compare(folder: Path, known: dict[str, Any], header: dict[str, Any], key: str) -> Any:
    """Raise StudyError if an entry differs. Returns it with what `known` lacks in it; None if that is nothing."""
    then, now = _as_read_today(folder, known, key), _as_read_today(folder, header, key)
    whole = None
    if key in ("rules", "sets"):  # a key that an earlier version did not write is no difference
        then = _joined(then, now)
        whole = then if then != known[key] else None
    if then != now:
        raise _changed(folder, *first_difference(key, then, now))
    return whole


def _changed(folder: Path, where: str, was: str, is_now: str) -> StudyError:
    key, part = where.partition(".")[0], where.rpartition(".")[2]
    meaning = MEANING.get(key) or MEANING.get(f"{key} {part}")
    return StudyError(
        f"{folder / study_log.HEADER}: this study was started with another `{where}` ({was}; now {is_now})"
        f"{f': {meaning}' if meaning else ''}; resume with the original command, or choose a new folder with --out"
    )


def _recounted(
    folder: Path, then: dict[str, Any], now: dict[str, Any], content_of: ContentOf | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sets of `then`, with the items of `now` where only another number of them is asked; and a sentence on each.

    Raises StudyError if the number of before does not give the items of before: then the data are others.
    """
    found, told = dict(then), []
    for name, own in now.items():
        old = then.get(name, {})
        same = old.get("items") == own.get("items")
        # Earlier versions wrote how many items there are, and not how many were asked for.
        count = old.get("asked", None if same else old.get("items"))
        if content_of is None or type(count) is not int or count == own.get("asked"):
            continue
        today = content_of(name, count)
        if today != old.get("content", today):
            raise _changed(folder, *first_difference(f"sets.{name}.content", old["content"], today))
        found[name] = old | {key: own[key] for key in COUNTED if key in own}
        if not same:
            told.append(
                f"{folder}: {own['items']} {name} items, before {old.get('items')}; what depends on them is made again"
            )
    return found, tuple(told)


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
    if isinstance(content.get("search"), dict):
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
