"""Recipes as YAML files: read with the line number of each mistake, written in a readable form.

Knows the schema and YAML; no models. mergekit's own YAML is recognised by its key `merge_method`.
"""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from evovlm.recipe.limits import MOST_BYTES
from evovlm.recipe.mergekit import looks_like_mergekit, read_content
from evovlm.recipe.route import Step
from evovlm.recipe.schema import FROM_FILE, Recipe, Search
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


def first_words(path: Path) -> str:
    """The first sentence of the comment at the start of a recipe file; empty if there is none."""
    lines = takewhile(lambda line: line.startswith("#"), read_text(path, MOST_BYTES).splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return comment.partition(". ")[0].removesuffix(".")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe file atomically."""
    write_text(path, recipe_text(recipe))


def moved(recipe: Recipe, root: Path, folder: Path) -> Recipe:
    """The recipe rewritten for another folder: paths relative to `root` become relative to `folder`.

    Absolute paths, hub ids and zoo names are kept.
    """

    def there(model: str) -> Path:
        return counted_from(root, model)

    def move(model: str) -> str:
        if Path(model).is_absolute() or model.startswith(("zoo:", "~")) or not there(model).is_dir():
            return model
        # Resolve symbolic links first, because `..` from a linked folder goes to the parent of the link's target.
        return Path(os.path.relpath(os.path.realpath(there(model)), os.path.realpath(folder))).as_posix()

    sources = tuple(source.model_copy(update={"model": move(source.model)}) for source in recipe.sources)
    base = recipe.base and recipe.base.model_copy(update={"model": move(recipe.base.model)})
    update = {"sources": sources, "base": base, "root": counted_from(Path(), folder)}
    return recipe.model_copy(update=update | _moved_data(recipe, root, folder))


def _moved_data(recipe: Recipe, root: Path, folder: Path) -> dict[str, Any]:
    """The recipe's parts that name data, with their paths rewritten for another folder."""

    def move(path: str) -> str:
        if Path(path).is_absolute() or path.startswith("~"):
            return path
        there = counted_from(root, path)
        # As for models, resolve symbolic links first; but a file that is a link may point to one without a suffix.
        real = os.path.join(os.path.realpath(there.parent), there.name)
        return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()

    def items(where: str) -> str:
        task, path, split = split_where(where)
        return where if path is None else f"{task}@{move(path)}:{split}"

    def preset(name: str) -> str:
        return "+".join(move(part) if is_preset_file(part) else part for part in name.split("+"))

    def search(found: Search | None) -> Search | None:
        return found and found.model_copy(update={"objectives": tuple(items(name) for name in found.objectives)})

    data, then = recipe.data, recipe.then
    if data is not None:
        named = {name: getattr(data, name) for name in ("search", "validation", "test")}
        moved_to = {name: where and items(where) for name, where in named.items()}
        data = data.model_copy(update=moved_to | {"preset": data.preset and preset(data.preset)})
    if then is not None:
        then = then.model_copy(update={"search": search(then.search)})
    return {"data": data, "search": search(recipe.search), "then": then}


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
    details = error.errors()
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
