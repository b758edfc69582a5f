"""Where a search keeps its sources: on the GPU, in pinned host memory, or mapped from disk.

Knows sizes and free memory; no tensors, models or streams. What lies in host memory or on disk is streamed to the GPU
for each candidate, behind the merging of what came before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from evovlm.system.errors import RecipeError

Place = Literal["gpu", "host", "disk"]
PLACES: tuple[Place, ...] = get_args(Place)
AUTO = "auto"
# The share of the GPU's memory that stays free for caches and activations, and of the host's for everything else.
KEPT_FREE_GPU = 0.3
KEPT_FREE_HOST = 0.25
_WORDS = {"gpu": "on the GPU", "host": "in pinned host memory, streamed", "disk": "mapped from disk, streamed"}


@dataclass(frozen=True)
class Memory:
    """Bytes free and in all, on the GPU and in the host."""

    gpu_free: int
    gpu_total: int
    host_free: int
    host_total: int


@dataclass(frozen=True)
class Placement:
    """Where each model lies, by its label, and how many bytes it has."""

    places: Mapping[str, Place]
    nbytes: Mapping[str, int]

    @property
    def streams(self) -> bool:
        """Whether anything crosses the bus for each candidate."""
        return any(place != "gpu" for place in self.places.values())

    def in_words(self) -> str:
        """One sentence for the terminal."""
        told = []
        for place in PLACES:
            labels = [label for label, at in self.places.items() if at == place]
            if labels:
                size = sum(self.nbytes[label] for label in labels)
                told.append(f"{', '.join(labels)} ({size / 1e9:.2f} GB) {_WORDS[place]}")
        return "; ".join(told)


def refuse_unknown_place(asked: str) -> None:
    """Raises RecipeError, listing the choices."""
    if asked not in (AUTO, *PLACES):
        raise RecipeError(f"--sources-in: unknown place {asked!r}; choose from {[AUTO, *PLACES]}")


def choose_places(nbytes: Mapping[str, int], memory: Memory, asked: str = AUTO) -> Placement:
    """Place each model, the first ones first on the GPU while they fit, then in host memory, then on disk.

    nbytes: by label, in order of use. asked: `auto`, or the place that all are forced to.
    Raises RecipeError: an unknown place.
    """
    refuse_unknown_place(asked)
    if asked != AUTO:
        return Placement({label: place for label in nbytes for place in PLACES if place == asked}, dict(nbytes))
    room = {
        "gpu": memory.gpu_free - KEPT_FREE_GPU * memory.gpu_total,
        "host": memory.host_free - KEPT_FREE_HOST * memory.host_total,
    }
    places: dict[str, Place] = {}
    for label, size in nbytes.items():
        place = next((place for place in PLACES if place == "disk" or size <= room[place]), PLACES[-1])
        places[label] = place
        if place != "disk":
            room[place] -= size
    return Placement(places, dict(nbytes))
