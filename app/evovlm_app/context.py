"""What every tab is given: the offer, the memory, the words. Knows no tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evovlm_app.catalogue import Offering
from evovlm_app.model_cache import ModelCache
from evovlm_app.searches import Searches
from evovlm_app.translations import Translator

# Everything that runs a model waits in one line and runs alone: nobody starves, memory is known.
MODELS_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


@dataclass(frozen=True)
class Context:
    """`language` is a visitor's own state; the rest is shared."""

    offering: Offering
    cache: ModelCache
    searches: Searches
    speak: Translator
    language: Any
    photographs: tuple[Any, ...] = ()
