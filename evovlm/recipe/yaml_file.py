"""Recipes as YAML files: read with the line number of each mistake, written in a readable form.

Knows the schema and YAML; no models. mergekit's own YAML is recognised by its key `merge_method`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from evovlm.recipe.limits import MOST_BYTES
from evovlm.recipe.mergekit import looks_like_mergekit, read_content
from evovlm.recipe.route import Step
from evovlm.recipe.schema import FROM_FILE, Recipe
from evovlm.recipe.search_settings import Search
from evovlm.recipe.where import is_preset_file, split_where
from evovlm.system.bounded_files import Unreadable, read_text
from evovlm.system.bounded_yaml import Loc, YamlFault, parse_yaml, place_of
from evovlm.system.errors import RecipeError
from evovlm.system.files import counted_from, write_text

MOST_MISTAKES = 20  # reported at once; the rest often follows from these


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file, in evovlm's or mergekit's format; its `root` is the file's folder.

    Raises RecipeError with file, line, key and the next step.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except Unreadable as error:
        raise RecipeError(f"{error}; give a recipe, a YAML file") from None
    return parse_recipe(text, path).counted_from(counted_from(Path(), path.parent))


def parse_recipe(text: str, path: Path) -> Recipe:
    """Read a recipe from YAML text; `path` is named in errors. Raises RecipeError for every mistake."""
    if len(text) > MOST_BYTES:
        raise RecipeError(f"{path}: is larger than {MOST_BYTES:,} characters, the limit for a recipe")
    try:
        parsed = parse_yaml(text)
    except YamlFault as fault:
        raise RecipeError(f"{path}:{fault.line}: {fault}") from None
    content, root = parsed.content, parsed.root
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, such as `method: dare_ties`")
    if looks_like_mergekit(content):
        return read_content(parsed, path)
    try:
        return Recipe.model_validate(content, context=FROM_FILE)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(root, path, error))) from None


@contextmanager
def placed_errors(path: Path) -> Iterator[None]:
    """Put file and line in front of a RecipeError that is raised in the block and starts with a key of the recipe.

    For what is found out only when a recipe is used, such as that no task has the name under `data.search`.
    """
    try:
        yield
    except RecipeError as error:
        keys = str(error).partition(": ")[0].split(".")
        if type(error) is not RecipeError or keys[0] not in Recipe.model_fields:
            raise
        try:
            root = parse_yaml(read_text(path, MOST_BYTES)).root
        except (OSError, YamlFault, Unreadable):  # it has changed since it was read
            root = None
        line, found = place_of(root, tuple(keys))
        raise RecipeError(f"{path}:{line}: {error}" if found else f"{path}: {error}") from error


def first_words(path: Path) -> str:
    """The first sentence of the comment at the start of a recipe file; empty if there is none."""
    lines = takewhile(lambda line: line.startswith("#"), read_text(path, MOST_BYTES).splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return comment.partition(". ")[0].removesuffix(".")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe file atomically."""
    write_text(path, recipe_text(recipe))


def is_recipe(path: Path, *recipes: Recipe) -> bool:
    """Whether a file holds one of the recipes, by its digest; not if it is missing or damaged."""
    try:
        return read_recipe(path).digest() in {recipe.digest() for recipe in recipes}
    except RecipeError:
        return False


def moved(recipe: Recipe, root: Path, folder: Path) -> Recipe:
    """The recipe rewritten for another folder: paths relative to `root` become relative to `folder`.

    Absolute paths, hub ids and zoo names are kept.
    """
    # Resolve symbolic links first, because `..` from a linked folder goes to the parent of the link's target.
    real = os.path.realpath(folder)

    def model(there: Path) -> str:
        return Path(os.path.relpath(os.path.realpath(there), real)).as_posix()

    def data(there: Path) -> str:
        # As for models; but a file that is a link may point to one without a suffix.
        found = os.path.join(os.path.realpath(there.parent), there.name)
        return Path(os.path.relpath(found, real)).as_posix()

    return _placed(recipe, root, model, data).counted_from(counted_from(Path(), folder))


def anchored(recipe: Recipe, root: Path) -> Recipe:
    """The recipe with absolute paths instead of those relative to `root`, so that its file may be in any folder."""
    return _placed(recipe, root, str, str)


def _placed(recipe: Recipe, root: Path, model: Callable[[Path], str], data: Callable[[Path], str]) -> Recipe:
    """The recipe with other paths: `model` and `data` give the new ones of absolute paths that were relative to `root`.

    `model` is asked only about folders that exist, because other names are hub ids.
    """

    def source(name: str) -> str:
        if Path(name).is_absolute() or name.startswith(("zoo:", "~")) or not counted_from(root, name).is_dir():
            return name
        return model(counted_from(root, name))

    def file(path: str) -> str:
        return path if Path(path).is_absolute() or path.startswith("~") else data(counted_from(root, path))

    def items(where: str) -> str:
        task, path, split = split_where(where)
        return where if path is None else f"{task}@{file(path)}:{split}"

    def search(found: Search | None) -> Search | None:
        return found and found.model_copy(update={"objectives": tuple(items(name) for name in found.objectives)})

    update: dict[str, Any] = {
        "sources": tuple(one.model_copy(update={"model": source(one.model)}) for one in recipe.sources),
        "base": recipe.base and recipe.base.model_copy(update={"model": source(recipe.base.model)}),
        "search": search(recipe.search),
        "then": recipe.then and recipe.then.model_copy(update={"search": search(recipe.then.search)}),
    }
    if recipe.data is not None:
        named = {name: getattr(recipe.data, name) for name in ("search", "validation", "test")}
        places: dict[str, Any] = {name: where and items(where) for name, where in named.items()}
        if recipe.data.preset is not None:
            parts = recipe.data.preset.split("+")
            places["preset"] = "+".join(file(part) if is_preset_file(part) else part for part in parts)
        update["data"] = recipe.data.model_copy(update=places)
    return recipe.model_copy(update=update)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, without defaults, with its content hash in the first line."""
    content = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"# evovlm recipe {recipe.digest()}\n{body}"


class _Dumper(yaml.SafeDumper):
    """Writes flat lists and route steps on one line."""


def _on_one_line(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.SequenceNode:
    flat = all(not isinstance(item, (dict, list)) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


_Dumper.add_representer(list, _on_one_line)


def _step_on_one_line(dumper: yaml.SafeDumper, data: dict[str, Any]) -> yaml.MappingNode:
    """Write each step of a route on one line, because a route may have two hundred steps."""
    step = "layer" in data and set(data) <= set(Step.model_fields)
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=step)


_Dumper.add_representer(dict, _step_on_one_line)


def _explain(root: yaml.Node | None, path: Path, error: ValidationError) -> list[str]:
    """One line per mistake. A value that no member of a union accepts is reported once."""
    told: dict[tuple[int, str], str] = {}
    details = _without_other_forms(error.errors())
    for number, detail in enumerate(details):
        if len(told) == MOST_MISTAKES:
            # A search for each line takes as long as the file, so those that are not printed are not looked up.
            return [*told.values(), f"{path}: and up to {len(details) - number} more mistakes"]
        loc = detail["loc"]
        line, keys = place_of(root, loc)
        kind = detail["type"]
        if kind == "missing":
            key = ".".join([*keys, str(loc[-1])])
            text = f"{key}: is required"
        elif kind == "extra_forbidden":
            key = ".".join(keys)
            text = f"{key}: unknown key{_nearest(loc)}"
        else:
            message = detail["msg"].removeprefix("Value error, ")
            if kind == "string_pattern_mismatch":  # only names of sources have a pattern
                message = f"{detail['input']!r} has other characters than letters, digits, `.`, `_` and `-`; rename it"
            # A check of several keys names the one it means at the start.
            deeper, longer = place_of(root, (*loc, message.partition(":")[0]))
            if len(longer) > len(keys):
                line, keys, message = deeper, longer, message.partition(":")[2].lstrip()
            key = ".".join(keys) or "recipe"
            text = f"{key}: {message}"
            if kind == "string_type" and isinstance(detail["input"], (bool, int, float, type(None))):
                text += f", but this is read as {json.dumps(detail['input'])}; put it in quotes"
        told.setdefault((line, key), f"{path}:{line}: {text}")
    return list(told.values())


def _without_other_forms(details: Sequence[Any]) -> list[Any]:
    """The mistakes without those of a mapping that was also read as a word or a number, which its key may be as well.

    A union's member is the last part of such a mistake's location; one within the mapping says what is wrong with it.
    """
    deeper = {(detail["loc"][:stop]) for detail in details for stop in range(1, len(detail["loc"]) - 1)}
    return [
        detail
        for detail in details
        if not (
            detail["type"] in ("literal_error", "int_type", "float_type")
            and isinstance(detail["input"], dict)
            and str(detail["loc"][-1]).startswith(("literal[", "constrained-", "int", "float"))
            and detail["loc"][:-1] in deeper
        )
    ]


def _nearest(loc: Loc) -> str:
    """A hint for an unknown key: the most similar valid key, or the valid keys."""
    fields = _fields_at(Recipe, loc[:-1])
    if not fields:
        return ""
    near = get_close_matches(str(loc[-1]), fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose from {sorted(fields)}"


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """The schema's keys at a location (passes through lists and mappings on the way)."""
    here: Any = model
    for step in loc:
        # A step that is not a field (a list index or mapping key) stays at the model inside the last field.
        fields = getattr(here, "model_fields", {})
        found = [field.annotation for name, field in fields.items() if step in (name, field.alias)]
        here = _model_within(found[0]) if found else here
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [field.alias or name for name, field in here.model_fields.items()]
    return []


def _model_within(annotation: Any) -> Any:
    """The one schema class inside an annotation such as `tuple[Source, ...]` or `Search | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_within(inner)
        if found is not None:
            return found
    return None
