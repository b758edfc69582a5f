"""The cache: models in memory, loaded when asked, the longest unused put back where the budget would be passed.

Knows offers and engines; no pages. Whoever takes a model uses it alone: the queue lets one question run at a time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from evovlm.engines.hf import Engine
from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import KEPT_BYTES, ResidentMerger
from evovlm.recipe.schema import Recipe
from evovlm_app.catalogue import Offer
from evovlm_app.limits import Refusal

# Rounded up for what a forward pass needs besides the weights.
HEADROOM = 1.2
SOURCES_KEPT = 3  # a merge of more sources is rare, and reckoned too small


@dataclass
class Resident:
    """A model in memory; `merger` where its weights may be merged anew."""

    engine: Engine
    merger: ResidentMerger | None
    recipe: Recipe | None
    nbytes: int


class ModelCache:
    """At most `budget` bytes of models in memory."""

    def __init__(self, budget: int, *, device: str = "cpu") -> None:
        self.budget = budget
        self._device = device
        self._loaded: OrderedDict[str, Resident] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def loaded(self) -> list[str]:
        """What is in memory, the longest unused first."""
        return list(self._loaded)

    @property
    def nbytes(self) -> int:
        """Bytes of the models in memory, as reckoned."""
        return sum(resident.nbytes for resident in list(self._loaded.values()))

    def holds(self, offer: Offer) -> bool:
        """Whether a model is in memory already, so that nobody waits for it."""
        return offer.key in self._loaded

    def waves(self, offers: Sequence[Offer]) -> list[list[Offer]]:
        """The offers in runs that fit into the budget together."""
        runs: list[list[Offer]] = []
        room = 0
        for offer in offers:
            need = self._need(offer, mixing=False)
            if not runs or need > room:
                runs.append([])
                room = self.budget
            runs[-1].append(offer)
            room -= need
        return runs

    def take(self, offer: Offer) -> Engine:
        """A model, loaded if it is not. Raises Refusal where it alone is beyond the budget."""
        return self._take(offer, mixing=False).engine

    @contextmanager
    def mix(self, offer: Offer, recipe: Recipe) -> Iterator[Engine]:
        """The owner's model with the recipe merged into it, in memory; another recipe overwrites it.

        Raises RecipeError where method and sources do not go together, FloatingPointError for weights that are
        not finite.
        """
        mixed = Offer(f"mix {offer.name}", offer.kinds, offer.folder, None)
        with self._lock:
            resident = self._take(mixed, mixing=True, recipe=recipe)
            _merge(resident, recipe)
        yield resident.engine

    def _take(self, offer: Offer, *, mixing: bool, recipe: Recipe | None = None) -> Resident:
        with self._lock:
            if offer.key not in self._loaded:
                self._make_room(self._need(offer, mixing=mixing), offer.name)
                self._loaded[offer.key] = self._load(offer, recipe, mixing=mixing)
            self._loaded.move_to_end(offer.key)
            return self._loaded[offer.key]

    def _make_room(self, need: int, name: str) -> None:
        if need > self.budget:
            raise Refusal("no_room", name=name, need=f"{need / 1e9:.1f}", most=f"{self.budget / 1e9:.1f}")
        while self._loaded and self.nbytes + need > self.budget:
            self._loaded.popitem(last=False)
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _load(self, offer: Offer, recipe: Recipe | None, *, mixing: bool) -> Resident:
        dtype = torch.float32 if self._device == "cpu" else None
        resident = Resident(
            Engine.load(offer.folder, device=self._device, dtype=dtype), None, None, self._need(offer, mixing=mixing)
        )
        chosen = recipe or offer.recipe
        if chosen is not None:
            _merge(resident, chosen)
            if not mixing:
                resident.merger = None  # what it keeps for the next candidate is not wanted here
        return resident

    def _need(self, offer: Offer, *, mixing: bool) -> int:
        """Bytes in memory: the files', doubled where 16-bit weights are computed in float32, and a merger's own."""
        stored = sum(path.stat().st_size for path in offer.folder.glob("*.safetensors"))
        if self._device != "cpu":
            return int(stored * HEADROOM)
        kept = stored // 2 * SOURCES_KEPT * KEPT_BYTES if mixing else 0
        # Where that is too much for the machine, the merger keeps nothing.
        if kept > psutil.virtual_memory().available // 2:
            kept = 0
        return int(stored * 2 * HEADROOM) + kept


def free_memory(device: str) -> int:
    """Bytes that are free where models are to run."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


def _merge(resident: Resident, recipe: Recipe) -> None:
    known = resident.recipe
    if known is not None and known.digest() == recipe.digest():
        return
    # What a merger keeps depends on models, method, options and seed.
    same = known is not None and _frame(known) == _frame(recipe)
    if resident.merger is None or not same:
        resident.merger = ResidentMerger(assemble(recipe, Path()), resident.engine.tower)
    resident.recipe = None  # half merged is nothing that may be taken for a whole
    resident.merger.merge(recipe)
    resident.recipe = recipe


def _frame(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"parameters": {}, "search": None, "data": None})
