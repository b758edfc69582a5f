"""The study's header: the settings a study was started with, and whether a command continues the same study.

Knows the recipe's schema and the settings of races; no searchers and no models. Recipes are compared as the current
schema reads them, so a key that did not exist when a study was started counts as its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from evovlm.recipe.schema import Recipe, Search
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.system.errors import StudyError

# Entries that must not change during a study; the others are informative only.
BINDING = ("recipe", "genes", "search", "items", "race", "eight_bit")
LONG = 60  # characters of a value that an error shows
T = TypeVar("T")


def refuse_changes(folder: Path, header: dict[str, Any]) -> None:
    """Compare the header of the study in `folder` with the one that a command would write.

    Raises StudyError with the first key that differs and both values, or if the current schema cannot read the header.
    """
    known = study_log.read_header(folder)
    for key in BINDING:
        if known.get(key) == header.get(key):
            continue
        then, now = _as_read_today(folder, known, key), _as_read_today(folder, header, key)
        if then != now:
            where, was, is_now = _first_difference(key, then, now)
            raise StudyError(
                f"{folder / study_log.HEADER}: this study was started with another `{where}` ({was}; now {is_now});"
                " resume with the original command, or choose a new folder with --out"
            )


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
    content = header.get(key)
    if key == "recipe":
        return recipe_of(folder, header).model_dump(mode="json", by_alias=True)
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
