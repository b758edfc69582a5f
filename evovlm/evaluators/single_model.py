"""A model as it is, unmerged, on one split of a task.

Knows engines and tasks; no recipes. A language model answers questions about pictures without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from evovlm.engines.hf import Engine
from evovlm.evaluators.local import Evaluation, OnHalved, answer_telling, score_answers
from evovlm.models.open_model import OpenModel, open_model
from evovlm.tasks import Generation, Item, Options
from evovlm.tasks.item_sets import ItemSet, read_item_set


def evaluate_model(
    model: str,
    data: str,
    count: int | None,
    *,
    seed: int,
    batch: int,
    device: str = "cpu",
    download: bool = False,
    preset: str | None = None,
) -> Evaluation:
    """Score one model as it is on `count` items of one split (`TASK:SPLIT`); None: on all of them.

    A language model answers without the image.
    """
    items = read_item_set("test", data, count, seed, options=Options(preset=preset, download=download))
    opened = open_model(model, model, None, Path.cwd(), download=download)
    dtype = torch.float32 if device == "cpu" else None
    return answer_as_is(opened, items, batch=batch, device=device, dtype=dtype)


def answer_as_is(
    model: OpenModel,
    items: ItemSet,
    *,
    batch: int,
    device: str,
    dtype: torch.dtype | None,
    on_halved: OnHalved | None = None,
) -> Evaluation:
    """Ask an opened model, score its answers by the items' task. `on_halved` hears of batches that did not fit."""
    engine = Engine.load(model.folder, device=device, dtype=dtype)
    asked, generation = list(items), items.task.generation
    if model.layout.kind == "llm":
        asked, generation = without_image(items, generation)
    return score_answers(items.task, items, answer_telling(engine, engine.prepare(asked, generation, batch), on_halved))


def without_image(items: Sequence[Item], generation: Generation) -> tuple[list[Item], Generation]:
    """The same questions for a model that cannot see: no image, and no place for one in the prompt."""
    template = generation.template.replace("<image>\n", "").replace("<image>", "")
    return [replace(item, image=None) for item in items], replace(generation, template=template)
