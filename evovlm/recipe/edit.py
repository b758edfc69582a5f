"""Change values of a recipe within its file's text, so that comments, order and layout stay.

Knows YAML's syntax tree and recipes as content; not what the keys mean. What cannot be changed in place is written
anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import parse_recipe, recipe_text
from evovlm.system.bounded_yaml import Loc, YamlFault, parse_yaml
from evovlm.system.errors import RecipeError

DIGEST = re.compile(r"\A# evovlm recipe [0-9a-f]+\n")
Change = tuple[int, int, str]  # from and to which character, and what is there instead


def edited_text(text: str, before: Recipe, after: Recipe) -> str:
    """The text of a recipe file with another recipe's values, in place; `before` is what the text holds now.

    A text that cannot be changed in place (mergekit's, or one with anchors) is replaced by `recipe_text(after)`.
    """
    try:
        root = parse_yaml(text).root
        changes = list(_changes(root, _content(before), _content(after)))
    except (YamlFault, LookupError):
        return recipe_text(after)
    found = text
    for start, stop, new in sorted(changes, reverse=True):
        found = found[:start] + new + found[stop:]
    found = DIGEST.sub(f"# evovlm recipe {after.digest()}\n", found)
    try:
        same = _content(parse_recipe(found, Path())) == _content(after)
    except RecipeError:
        same = False
    return found if same else recipe_text(after)


def _content(recipe: Recipe) -> dict[str, Any]:
    content: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return content


def _changes(node: yaml.Node | None, before: Any, after: Any, loc: Loc = ()) -> Iterator[Change]:
    """What to change below a node. Raises LookupError if that is more than values and keys of mappings."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping) and isinstance(node, yaml.MappingNode):
        nodes = {key.value: value for key, value in node.value}
        if before.keys() - after.keys():
            raise LookupError(loc)
        for key, value in after.items():
            if key in before:
                yield from _changes(nodes[key], before[key], value, (*loc, key))
        added = {key: value for key, value in after.items() if key not in before}
        if added:
            yield _insertion(node, added)
    elif isinstance(before, Sequence) and isinstance(node, yaml.SequenceNode) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _changes(node.value[number], *pair, (*loc, number))
    elif isinstance(node, yaml.ScalarNode) and isinstance(after, str):
        yield node.start_mark.index, node.end_mark.index, _flow(after)
    else:
        raise LookupError(loc)


def _insertion(node: yaml.MappingNode, added: Mapping[str, Any]) -> Change:
    """New keys, after the last one of a mapping: on its line in braces, else on lines of their own."""
    if not node.value:
        raise LookupError("an empty mapping")
    key, value = node.value[-1]
    lines = [f"{_flow(name)}: {_flow(content)}" for name, content in added.items()]
    if node.flow_style:
        return value.end_mark.index, value.end_mark.index, "".join(f", {line}" for line in lines)
    if not (isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">")) and not value.flow_style:
        key, value = _first_simple(node)
    place = _line_end(value.end_mark)
    return place, place, "".join(f"\n{' ' * key.start_mark.column}{line}" for line in lines)


def _first_simple(node: yaml.MappingNode) -> tuple[yaml.Node, yaml.Node]:
    """A key whose value ends on its own line: behind it, new keys can be written."""
    for key, value in node.value:
        if value.start_mark.line == key.start_mark.line == value.end_mark.line:
            return key, value
    raise LookupError("no key on one line")


def _line_end(mark: yaml.Mark) -> int:
    """The place of the line break after a mark; the mark's buffer holds the whole text, ended by NUL."""
    assert mark.buffer is not None
    rest = mark.buffer[mark.pointer :]
    ends = [place for place in (rest.find("\n"), rest.find("\0")) if place >= 0]
    return mark.index + min(ends, default=len(rest))


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")
