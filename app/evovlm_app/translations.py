"""The translator: which component has which text, so that the whole page can change its language at once.

Knows gradio's components and the texts; no tabs.
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
    """Components in the order in which they were built, each with the text keys of its properties."""

    language: Language
    _parts: list[tuple[Any, dict[str, str]]] = field(default_factory=list)
    others: list[tuple[Callable[..., Any], list[Any], list[Any]]] = field(default_factory=list)

    def __call__(self, component: Part, **keys: str) -> Part:
        """Register a component with its texts, property name -> key in `words`, and set them in the first language."""
        for name, key in keys.items():
            setattr(component, name, say(key, self.language))
        self._parts.append((component, keys))
        return component

    def also(self, speak: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """Register texts that depend on more than the language: a handler with its inputs and outputs."""
        self.others.append((speak, inputs, outputs))

    @property
    def components(self) -> list[Any]:
        """All registered components: the outputs of a language change."""
        return [component for component, _ in self._parts]

    def updates(self, language: Language) -> list[Any]:
        """The updates that set each component's texts in a language, in the order of `components`."""
        return [gr.update(**{name: say(key, language) for name, key in keys.items()}) for _, keys in self._parts]
