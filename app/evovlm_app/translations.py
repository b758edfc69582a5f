"""The speaker: which component says which words, so that all of a page can change its language at once.

Knows gradio's components and the words; no tabs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr

from evovlm_app.words import Language, say

Part = TypeVar("Part")


@dataclass
class Translator:
    """Components in the order in which they were built, each with the words of its properties."""

    language: Language
    _parts: list[tuple[Any, dict[str, str]]] = field(default_factory=list)
    others: list[tuple[Callable[..., Any], list[Any], list[Any]]] = field(default_factory=list)

    def __call__(self, component: Part, **keys: str) -> Part:
        """Register a component: property name -> key in `words`. It says them in the first language until told."""
        for name, key in keys.items():
            setattr(component, name, say(key, self.language))
        self._parts.append((component, keys))
        return component

    def also(self, speak: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """Register words that depend on more than the language: a handler, its inputs and outputs."""
        self.others.append((speak, inputs, outputs))

    @property
    def components(self) -> list[Any]:
        """Everything that speaks: the outputs of a change of language."""
        return [component for component, _ in self._parts]

    def updates(self, language: Language) -> list[Any]:
        """What each component says in that language, in the order of `components`."""
        return [gr.update(**{name: say(key, language) for name, key in keys.items()}) for _, keys in self._parts]
