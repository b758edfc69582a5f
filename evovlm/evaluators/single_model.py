"""Evaluates a single, unmerged model on one split of a task.

Knows engines and tasks; no recipes. A language model answers questions about images without the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from evovlm.engines.hf import Engine
from evovlm.evaluators.local import Evaluation, OnHalved, answer_telling, score_answers
from evovlm.models.open_model import OpenModel, open_model
from evovlm.system.progress import Progress
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
    self_check: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Score one unmerged model on `count` items of one split (`TASK:SPLIT`), or on all of them if None.

    `model`: a folder or hub id. `batch`: the most items per batch. A language model answers without the image.
    `progress`: see `answer_as_is`. Raises DataError if the items cannot be
    read, CheckpointError if the model cannot be loaded.
    """
    items = read_item_set("test", data, count, seed, options=Options(preset=preset, download=download))
    opened = open_model(model, model, None, Path.cwd(), download=download)
    dtype = torch.float32 if device == "cpu" else None
    return answer_as_is(
        opened, items, batch=batch, device=device, dtype=dtype, self_check=self_check, progress=progress
    )


def answer_as_is(
    model: OpenModel,
    items: ItemSet,
    *,
    batch: int,
    device: str,
    dtype: torch.dtype | None,
    on_halved: OnHalved | None = None,
    self_check: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask an opened model and score its answers with the items' task.

    `on_halved` is called with the size of each batch that did not fit into memory. `self_check`: see `Engine.check`.
    `progress` is called with the number of answered questions and of all; before the model is loaded, with zeros.
    """
    if progress is not None:
        progress(0, 0)
    engine = Engine.load(model.folder, device=device, dtype=dtype, self_check=self_check)
    asked, generation = list(items), items.task.generation
    if model.layout.kind == "llm":
        asked, generation = without_image(items, generation)
    prepared = engine.prepare(asked, generation, batch)
    return score_answers(items.task, items, answer_telling(engine, prepared, on_halved, progress))


def without_image(items: Sequence[Item], generation: Generation) -> tuple[list[Item], Generation]:
    """Return the questions for a model without vision: no image, and no image placeholder in the prompt."""
    template = generation.template.replace("<image>\n", "").replace("<image>", "")
    return [replace(item, image=None) for item in items], replace(generation, template=template)
