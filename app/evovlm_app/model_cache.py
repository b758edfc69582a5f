"""The model cache: models are loaded on demand; the least recently used are evicted to stay within the budget.

Knows offers and engines; no pages. A model is never used twice at once: the queue runs one question at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from evovlm.engines.chat import lend_template, set_template
from evovlm.engines.hf import Engine
from evovlm.merging.assembly import assemble
from evovlm.merging.live.choose import AUTOMATIC, Keeping, Merger, merger_for
from evovlm.merging.live.cpu import KEPT_BYTES
from evovlm.recipe.schema import Options, Recipe
from evovlm_app.catalogue import Offer
from evovlm_app.limits import Refusal

log = logging.getLogger(__name__)

# Factor on the weights' size, for the memory that a forward pass needs besides them.
HEADROOM = 1.2
ONCE = Keeping(place="disk")
SOURCES_KEPT = 3  # merges of more sources are rare, and are underestimated


@dataclass
class Resident:
    """A model in memory; `merger` is set if its weights can be merged again. own: bytes that the model takes."""

    engine: Engine
    merger: Merger | None
    recipe: Recipe | None
    own: int

    @property
    def nbytes(self) -> int:
        """Estimated bytes of the model and of what its merger keeps beside it."""
        return self.own + (0 if self.merger is None else self.merger.kept_bytes)


class ModelCache:
    """Keeps at most `budget` bytes of models in memory, by estimate. `self_check`: see `Engine.check`."""

    def __init__(self, budget: int, *, device: str = "cpu", self_check: bool = True) -> None:
        self.budget = budget
        self._device = device
        self._self_check = self_check
        self._loaded: OrderedDict[str, Resident] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def loaded(self) -> list[str]:
        """The keys of the models in memory, least recently used first."""
        return list(self._loaded)

    @property
    def nbytes(self) -> int:
        """Estimated bytes of the models in memory."""
        return sum(resident.nbytes for resident in list(self._loaded.values()))

    def holds(self, offer: Offer) -> bool:
        """Whether a model is already in memory, so that it need not be loaded."""
        return offer.key in self._loaded

    def waves(self, offers: Sequence[Offer]) -> list[list[Offer]]:
        """The offers, in order, split into groups that fit into the budget together."""
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
        """The engine of a model, loaded if necessary. Raises Refusal if the model alone exceeds the budget."""
        return self._take(offer, mixing=False).engine

    @contextmanager
    def mix(self, offer: Offer, recipe: Recipe) -> Iterator[Engine]:
        """The owner's model with the recipe merged into it, in memory; the next recipe overwrites it.

        Raises RecipeError if method and sources do not fit, FloatingPointError for weights that are not finite, and
        Refusal if the model alone exceeds the budget.
        """
        mixed = replace(offer, name=f"mix {offer.name}", recipe=None)
        with self._lock:
            resident = self._take(mixed, mixing=True, recipe=recipe)
            self._merge(resident, recipe, AUTOMATIC)
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
        engine = Engine.load(offer.folder, device=self._device, dtype=dtype, self_check=self._self_check)
        resident = Resident(engine, None, None, self._need(offer, mixing=mixing))
        chosen = recipe or offer.recipe
        if chosen is not None and chosen.chat_template is not None:
            set_template(engine.processor, chosen.chat_template)
        lend_template(engine.processor, offer.template)
        if chosen is not None:
            # What is merged once is read once, without a place of its own in the GPU's memory.
            self._merge(resident, chosen, AUTOMATIC if mixing else ONCE)
            if not mixing:
                resident.merger = None  # its buffers for further merges are not needed here
        return resident

    def _merge(self, resident: Resident, recipe: Recipe, keeping: Keeping) -> None:
        """Merge a recipe into a resident model, from the tensors that its merger keeps if these are of its models."""
        known = resident.recipe
        if known is not None and known.digest() == recipe.digest():
            return
        on_gpu = self._device.startswith("cuda")
        same = known is not None and _frame(known, on_gpu=on_gpu) == _frame(recipe, on_gpu=on_gpu)
        if resident.merger is None or not same:
            resident.merger = None  # frees what it keeps, before another is loaded
            if on_gpu:
                torch.cuda.empty_cache()
            resident.merger = merger_for(assemble(recipe, Path()), resident.engine.tower, keeping, log.info)
        resident.recipe = None  # a half-merged model must not be taken for a finished one
        resident.merger.merge(recipe)
        resident.recipe = recipe

    def _need(self, offer: Offer, *, mixing: bool) -> int:
        """Estimated bytes: the files' size (doubled on a CPU, for float32 instead of 16 bits), HEADROOM included.

        On a CPU with the merger's buffers; on a GPU the merger keeps the sources where there is room.
        """
        stored = sum(path.stat().st_size for path in offer.folder.glob("*.safetensors"))
        if self._device != "cpu":
            return int(stored * HEADROOM)
        kept = stored // 2 * SOURCES_KEPT * KEPT_BYTES if mixing else 0
        # If that is too much for the machine, the merger keeps nothing.
        if kept > psutil.virtual_memory().available // 2:
            kept = 0
        return int(stored * 2 * HEADROOM) + kept


def free_memory(device: str) -> int:
    """Free bytes on the device: GPU memory for cuda, available RAM otherwise."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


def _frame(recipe: Recipe, *, on_gpu: bool) -> Recipe:
    """What two recipes must share for one merger: on a GPU the models, on a CPU method, options and seed too."""
    free: dict[str, Any] = {"parameters": {}, "search": None, "data": None}
    if on_gpu:
        free |= {"method": "linear", "options": Options(), "seed": 0}
    return recipe.model_copy(update=free)
