"""Decides where a search keeps its sources: on the GPU, in pinned host memory, or memory-mapped from disk.

Knows sizes and free memory; no tensors, models or streams. Sources in host memory or on disk are streamed to the GPU
for each candidate; the transfer of a part overlaps with merging the parts before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from evovlm.system.errors import RecipeError

Place = Literal["gpu", "host", "disk"]
PLACES: tuple[Place, ...] = get_args(Place)
AUTO = "auto"
# Share of the GPU's memory kept free for caches and activations, and of the host's for everything else.
KEPT_FREE_GPU = 0.3
KEPT_FREE_HOST = 0.25
_WORDS = {"gpu": "on the GPU", "host": "in pinned host memory, streamed", "disk": "mapped from disk, streamed"}


@dataclass(frozen=True)
class Memory:
    """Free and total bytes, on the GPU and in the host."""

    gpu_free: int
    gpu_total: int
    host_free: int
    host_total: int


@dataclass(frozen=True)
class Placement:
    """Where each model is kept and its bytes, both by label."""

    places: Mapping[str, Place]
    nbytes: Mapping[str, int]

    @property
    def streams(self) -> bool:
        """Whether anything is transferred to the GPU for each candidate."""
        return any(place != "gpu" for place in self.places.values())

    def in_words(self) -> str:
        """Describe the placement in one sentence for the terminal."""
        told = []
        for place in PLACES:
            labels = [label for label, at in self.places.items() if at == place]
            if labels:
                size = sum(self.nbytes[label] for label in labels)
                told.append(f"{', '.join(labels)} ({size / 1e9:.2f} GB) {_WORDS[place]}")
        return "; ".join(told)


def on_the_gpu(nbytes: Mapping[str, int]) -> Placement:
    """Place all models on the GPU. nbytes: by label."""
    return Placement(dict.fromkeys(nbytes, "gpu"), dict(nbytes))


def refuse_unknown_place(asked: str) -> None:
    """Raise RecipeError, listing the choices, if `asked` is not a place."""
    if asked not in (AUTO, *PLACES):
        raise RecipeError(f"--sources-in: unknown place {asked!r}; choose from {[AUTO, *PLACES]}")


def choose_places(nbytes: Mapping[str, int], memory: Memory, asked: str = AUTO) -> Placement:
    """Place the models in order: each on the GPU if it fits, otherwise in host memory, otherwise on disk.

    nbytes: by label, in order of use. asked: `auto`, or one place for all models.
    Raises RecipeError if `asked` is not a place.
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
