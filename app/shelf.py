"""The shelf: models by name, loaded when first asked, the least used put back when it is full.

Knows folders and engines; no pages. A visitor chooses a name from what the operator offered, never a path.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from evovlm.engines.hf import Engine
from evovlm.errors import UserError
from evovlm.heldout import without_image
from evovlm.tasks import Item, Task

MOST_LOADED = 4


class Shelf:
    """At most `most` models in memory. One answer at a time: the models share the machine's cores."""

    def __init__(self, folders: Mapping[str, Path], *, device: str = "cpu", most: int = MOST_LOADED) -> None:
        self._folders = dict(folders)
        self._device = device
        self._most = most
        self._loaded: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What a visitor may choose from."""
        return list(self._folders)

    def answer(self, name: str, task: Task, item: Item) -> str:
        """One model's answer to one question. A model without eyes answers without the image."""
        with self._lock:
            engine = self._engine(name)
            items, generation = [item], task.generation
            if not engine.sees:
                items, generation = without_image(items, generation)
            # A fresh id: two visitors' images must never be taken for one.
            fresh = [replace(one, id=f"{name}:{id(item)}") for one in items]
            return engine.answer(engine.prepare(fresh, generation, 1))[0]

    def _engine(self, name: str) -> Engine:
        if name not in self._folders:
            raise UserError(f"unknown model {name!r}; choose from {self.names}")
        if name not in self._loaded:
            while len(self._loaded) >= self._most:
                self._loaded.popitem(last=False)
            dtype = torch.float32 if self._device == "cpu" else None
            self._loaded[name] = Engine.load(self._folders[name], device=self._device, dtype=dtype)
        self._loaded.move_to_end(name)
        return self._loaded[name]
