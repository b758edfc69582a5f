"""Evaluates a single, unmerged model on one split of a task.

Knows engines and tasks; no recipes. A language model answers questions about images without the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from evovlm.engines.chat import lend_template, template_of
from evovlm.engines.hf import Engine
from evovlm.evaluators.local import Evaluation, LocalEvaluator, OnHalved, answer_telling, score_answers
from evovlm.models.chat_templates import stored_template
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
    template: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask an opened model and score its answers with the items' task.

    `on_halved` is called with the size of each batch that did not fit into memory. `self_check`: see `Engine.check`.
    `template`: the chat template to ask in if the model has none. `progress` is called with the number of answered
    questions and of all; before the model is loaded, with zeros.
    """
    if progress is not None:
        progress(0, 0)
    engine = Engine.load(model.folder, device=device, dtype=dtype, self_check=self_check)
    lend_template(engine.processor, template)
    asked, generation = list(items), items.task.generation
    if model.layout.kind == "llm":
        asked, generation = without_image(items, generation)
    prepared = engine.prepare(asked, generation, batch)
    return score_answers(items.task, items, answer_telling(engine, prepared, on_halved, progress))


def answer_source(
    evaluator: LocalEvaluator, model: OpenModel, items: ItemSet, progress: Progress | None = None
) -> Evaluation:
    """Ask a search's source, or its base, unmerged: as the resident model if that can become it, else loaded apart.

    A model without a chat template is asked in the one that the merged model has. The evaluator's `tell` is called with
    a sentence if the model is loaded onto a GPU apart.
    """
    engine, resident = evaluator.engine, evaluator.resident
    reason = resident.why_not_as_is(model)
    if evaluator.tell is not None and items.task.generation.chat and stored_template(model.folder) is None:
        evaluator.tell(f"{model.label} has no chat template of its own; it is asked in that of the merged model")
    if reason is not None:
        if evaluator.tell is not None and engine.device.startswith("cuda"):
            evaluator.tell(f"{model.label} is loaded apart to answer as it is: {reason}")
        return answer_as_is(
            model,
            items,
            batch=evaluator.batch_for(items.task.generation),
            device=engine.device,
            dtype=engine.dtype,
            on_halved=evaluator.on_halved,
            self_check=evaluator.self_check,
            template=template_of(engine.processor, sees=engine.sees),
            progress=progress,
        )
    if progress is not None:
        progress(0, len(items))
    if model.layout.kind == "llm":
        asked, generation = without_image(items, items.task.generation)
        prepared = engine.prepare(asked, generation, evaluator.batch_for(generation))
    else:
        prepared = evaluator.prepare(items)
    resident.become_model(model)
    return score_answers(items.task, items, answer_telling(engine, prepared, evaluator.on_halved, progress))


def without_image(items: Sequence[Item], generation: Generation) -> tuple[list[Item], Generation]:
    """Return the questions for a model without vision: no image, and no image placeholder in the prompt."""
    template = generation.template.replace("<image>\n", "").replace("<image>", "")
    return [replace(item, image=None) for item in items], replace(generation, template=template)
