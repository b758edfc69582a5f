"""Whether a model on disk can be asked, by which path, and how fast, before any work is begun.

Knows opened models, engines and a few prompts of its own; no recipes, tasks or searches. Small models are loaded and
asked. Of large ones a cut-down copy with random weights goes through the same self-check as the real one will.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import GenerationConfig

from evovlm.engines._cut_down import cut_down
from evovlm.engines._loading import load_reader
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import complete_processor
from evovlm.models.foreign_kinds import refuse_unasked
from evovlm.models.open_model import OpenModel
from evovlm.system.errors import CheckpointError, MachineFault, UserError
from evovlm.system.faults import machine_fault
from evovlm.tasks.protocol import Generation, Item

# Bytes of weights up to which a model is loaded and asked: a second or two on any machine.
SMALL = 200_000_000
QUESTIONS = 8
NEW_TOKENS = 16
PROBE = "What is {}? Answer in one word."

Way = Literal["fast", "transformers", "no", "unknown"]


@dataclass(frozen=True)
class Asking:
    """How a model would be asked; `path`: by the fast path, by transformers' own layers (slower), or not at all.

    tokens_per_second: of a few short answers on this machine's CPU in float32; None if nothing was measured. text: the
    same in a sentence, and how it was found out.
    """

    path: Way
    text: str
    tokens_per_second: float | None = None


NAMES: dict[str, str] = {"fast": "fast path", "transformers": "transformers' own layers, slower"}


def how_asked(model: OpenModel) -> Asking:
    """Find out how an opened model would be asked. Problems are returned, never raised, except the machine's."""
    try:
        refuse_unasked(model.folder, model.config, model.checkpoint.keys())
        if model.checkpoint.nbytes <= SMALL:
            return _measured(model.folder)
        return _by_copy(model.folder)
    except MachineFault:
        raise
    except UserError as error:
        return Asking("no", str(error).removeprefix(f"{model.folder}").removeprefix(":").strip())


def _measured(folder: Path) -> Asking:
    """Load a small model and ask it."""
    engine = Engine.load(folder, dtype=torch.float32)
    path = _path(engine)
    generation = Generation(template="{question}", max_new_tokens=NEW_TOKENS)
    items = [Item(f"probe-{index}", PROBE.format(index), (), None) for index in range(QUESTIONS)]
    prepared = engine.prepare(items, generation, QUESTIONS)
    engine.answer(prepared)  # the first time, memory is set up
    began = time.perf_counter()
    answers = engine.answer(prepared)
    seconds = time.perf_counter() - began
    made = sum(len(engine.tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1 for answer in answers)
    speed = min(made, QUESTIONS * NEW_TOKENS) / seconds
    return Asking(path, f"{NAMES[path]}; {speed:,.0f} tokens/s for {QUESTIONS} short questions, measured here", speed)


def _by_copy(folder: Path) -> Asking:
    """Try the engine's self-check on a cut-down copy of a large model."""
    config, processor, sees = load_reader(folder)
    try:
        model = cut_down(config)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        model.name_or_path = str(folder)
        if sees:
            complete_processor(processor, model)
        engine = Engine(model, processor, sees=sees)
        engine.check(str(folder))
    except (CheckpointError, MachineFault):
        raise
    except Exception as error:  # transformers raises nearly anything where it cannot make a model of a configuration
        lacking = machine_fault(error)
        if lacking is not None:
            raise lacking from error
        said = str(error).strip().partition("\n")[0]
        text = (
            f"not known: no cut-down copy of this kind could be tried ({said}); the model is checked when it is loaded"
        )
        return Asking("unknown", text)
    path = _path(engine)
    return Asking(path, f"{NAMES[path]}; found with a cut-down copy, so its speed is not measured")


def _path(engine: Engine) -> Way:
    return "fast" if engine.lean is not None else "transformers"
