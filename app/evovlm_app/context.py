"""The context that every tab receives: offering, model cache, searches, translations. Knows no tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evovlm_app.catalogue import Offering
from evovlm_app.model_cache import ModelCache
from evovlm_app.searches import Searches
from evovlm_app.translations import Translator

# All events that run a model share one queue and run one at a time: no visitor starves, and memory use is predictable.
MODELS_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


@dataclass(frozen=True)
class Context:
    """`language` is the gr.State of each visitor; everything else is shared."""

    offering: Offering
    cache: ModelCache
    searches: Searches
    speak: Translator
    language: Any
    photographs: tuple[Any, ...] = ()
