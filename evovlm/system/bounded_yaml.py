"""Read YAML of unknown origin: values of a few plain types, in time and memory proportional to the text.

Does not know what the keys mean. PyYAML alone lets ten lines of aliases stand for ten billion values, builds dates and
sets, reads numbers of any length, and raises exceptions of five libraries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from evovlm.system.plain_text import abridged

Loc = tuple[int | str, ...]  # keys and indices, from the top of a document

TEXT_TAG = "tag:yaml.org,2002:str"
NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
MERGE_TAG = "tag:yaml.org,2002:merge"
SCALAR_TAGS = (TEXT_TAG, *NUMBER_TAGS, "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", MERGE_TAG)
# Lists within mappings within lists; our deepest file has 5 levels. Python's stack ends at about 300 in PyYAML.
MOST_DEPTH = 50
# Characters of a number. An exact decimal fraction of a double that anyone writes by hand has fewer; a number of
# thousands of digits takes Python quadratic time to read, and cannot be printed.
MOST_DIGITS = 100
# What aliases may stand for, in characters and values, beyond what the file itself holds. Dozens of aliases of a
# mapping of a few keys stay far below; each level of a bomb multiplies by ten.
FREE_EXPANSION = 20_000
# Matches what YAML reads as a number in base 60, such as 12:30:45: a text to everyone else.
BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
# YAML refuses control characters but accepts their escapes. NUL ends a path; half a surrogate pair cannot be encoded.
CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


class YamlFault(ValueError):
    """A text that is not YAML, or more than we read. `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True)
class Parsed:
    """`content`: dict, list, str, int, float, bool or None. `root`: its syntax tree with line numbers, if not empty."""

    content: Any
    root: yaml.Node | None


def parse_yaml(text: str) -> Parsed:
    """Read one YAML document whose keys are texts. Dates stay texts; no tag but `!!str` is accepted.

    Raises YamlFault, with the line, for invalid YAML, a key given twice, a key that is not a text, another tag, a
    number of more than MOST_DIGITS characters, more than MOST_DEPTH levels, and aliases that multiply.
    """
    try:
        return _parsed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlFault(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlFault(line, f"not valid YAML: the character {error.character!r} is not allowed") from None
    except yaml.YAMLError as error:
        raise YamlFault(1, f"not valid YAML: {error}") from None


def _parsed(text: str) -> Parsed:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    except YamlFault:
        raise
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, such as "\\UFFFFFFFF"
        raise YamlFault(loader.line + 1, f"not valid YAML: {error}") from None
    if root is None:
        return Parsed(None, None)
    _refuse_keys(root, set())
    if loader.aliases:
        _refuse_expansion(root, max(FREE_EXPANSION, 2 * len(text)))
    return Parsed(loader.construct_document(root), root)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with limits where the syntax tree is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
        elif event.tag not in (None, "!") and not (event.tag == TEXT_TAG and isinstance(event, yaml.ScalarEvent)):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise YamlFault(line, f"the tag {abridged(tag)} is not read here; leave it out, or quote a text")
        if self._depth == MOST_DEPTH:
            raise YamlFault(line, f"more than {MOST_DEPTH} levels of lists and mappings; write it flatter")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert node is None or isinstance(node, yaml.Node)
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node, line)
        return node

    def _check_scalar(self, node: yaml.ScalarNode, line: int) -> None:
        """Make a text of what only looks like another type; refuse numbers and characters that nothing can handle."""
        if found := CONTROL.search(node.value):
            raise YamlFault(line, f"the character {found.group()!a} is not allowed")
        if node.tag in NUMBER_TAGS:
            if len(node.value) > MOST_DIGITS:
                raise YamlFault(line, f"a number of {len(node.value):,} characters; give at most {MOST_DIGITS}")
            try:
                self.yaml_constructors[node.tag](self, node)
            except ValueError:  # such as 0x_
                node.tag = TEXT_TAG
        if node.tag not in SCALAR_TAGS or (node.tag in NUMBER_TAGS and BASE_60.fullmatch(node.value)):
            node.tag = TEXT_TAG  # a date, `=`, or a number in base 60


def _refuse_keys(node: yaml.Node, seen: set[int]) -> None:
    """Refuse keys that occur twice or are not texts. `seen`: nodes already looked at, since aliases share them."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlFault(line, "a key is a list or a mapping; keys are texts")
            if key.value in keys:
                raise YamlFault(line, f"the key {abridged(key.value)!r} appears twice; keep one")
            if key.tag not in (TEXT_TAG, MERGE_TAG):
                read_as = key.tag.rpartition(":")[2]
                raise YamlFault(line, f"the key {abridged(key.value)} is read as {read_as}; put it in quotes")
            keys.add(key.value)
            _refuse_keys(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_keys(item, seen)


def _refuse_expansion(root: yaml.Node, most: int) -> None:
    """Refuse aliases that stand for more than `most` characters and values, contain themselves, or nest too deep."""
    measured: dict[int, tuple[int, int] | None] = {}  # size and depth; None: still being measured

    def measure(node: yaml.Node) -> tuple[int, int]:
        line = node.start_mark.line + 1
        if id(node) in measured:
            known = measured[id(node)]
            if known is None:
                raise YamlFault(line, "an alias stands within its own anchor; write the values out")
            return known
        measured[id(node)] = None
        size, depth = 1, 1
        if isinstance(node, yaml.ScalarNode):
            size += len(node.value)
        else:
            pairs = isinstance(node, yaml.MappingNode)
            parts = [measure(part) for item in node.value for part in (item if pairs else (item,))]
            size += sum(part for part, _ in parts)
            depth += max((part for _, part in parts), default=0)
        if size > most:
            raise YamlFault(line, f"its aliases stand for more than {most:,} values; write out what is needed")
        if depth > MOST_DEPTH + 1:
            raise YamlFault(line, f"its aliases nest more than {MOST_DEPTH} levels deep; write the values out")
        measured[id(node)] = size, depth
        return size, depth

    measure(root)


def place_of(root: yaml.Node | None, loc: Loc) -> tuple[int, list[str]]:
    """The line of the deepest node of `loc` that is in the file, and the keys on the way to it.

    pydantic adds names of union members to a location; steps that are not in the file are skipped.
    """
    node, line, keys = root, (root.start_mark.line + 1 if root else 1), []
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    node, line = value, key.start_mark.line + 1
                    keys.append(str(step))
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
            keys.append(str(step))
    return line, keys


def kind_of(value: object) -> str:
    """A value's kind in a user's words: "a list", "empty"."""
    kinds = {type(None): "empty", bool: "true or false", list: "a list", tuple: "a list", dict: "a mapping"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else "a text")
