"""What every tab is given: the offer, the memory, the words. Knows no tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.offers import Offering
from app.searches import Searches
from app.shelf import Shelf
from app.speaker import Speaker

# Everything that runs a model waits in one line and runs alone: nobody starves, memory is known.
MODELS_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


@dataclass(frozen=True)
class House:
    """`language` is a visitor's own state; the rest is shared."""

    offering: Offering
    shelf: Shelf
    searches: Searches
    speak: Speaker
    language: Any
    photographs: tuple[Any, ...] = ()
