"""Loads a model's folder with transformers, after everything in it that can be looked at first has been.

Knows transformers' Auto classes; generates no answers. What a configuration asks for is compared with the headers of
the files before anything of its size is allocated.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from evovlm.engines._soundness import refuse_unsound
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.configuration import read_config, read_generation, refuse_oversized
from evovlm.models.foreign_files import adapter_beside
from evovlm.models.foreign_kinds import refuse_unasked
from evovlm.models.library_faults import explained
from evovlm.models.loading import first_names, load_reporting, refuse_unfit, report_from_headers
from evovlm.models.model_files import check_files
from evovlm.models.panics import without_reports
from evovlm.models.pictures import refuse_oversized_pictures
from evovlm.models.processors import load_processor
from evovlm.models.vocabulary import read_vocabulary
from evovlm.models.zoo_models import FOLDER
from evovlm.system.errors import CheckpointError

ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "projector_hidden_act")
log = logging.getLogger(__name__)


def load_sound(folder: Path, dtype: torch.dtype | None) -> tuple[Any, Any, bool]:
    """The model on the CPU, its tokenizer or processor, and whether it is a vision-language model.

    dtype: None keeps the stored one. Raises CheckpointError as `Engine.load` does, and MachineFault.
    """
    if not folder.is_relative_to(FOLDER):  # those are compared with the manifest when they are opened
        _refuse_unloadable(folder)
    _, processor, sees = load_reader(folder)
    if sees and not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise CheckpointError(
            f"{folder}: has no processor for pictures (processor_config.json or preprocessor_config.json); fetch it"
        )
    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with explained(folder):
        model, report = load_reporting(kind, folder, dtype=dtype if dtype is not None else "auto")
    refuse_unfit(folder, report)
    if told := adapter_beside(folder):
        log.warning("%s: %s", folder, told)
    if report.beside:
        log.warning("%s: not used, since its architecture has no such part: %s", folder, first_names(report.beside))
    with explained(folder, "its files do not fit each other"):
        refuse_unsound(folder, model, processor, sees=sees)
    return model, processor, sees


def load_reader(folder: Path) -> tuple[Any, Any, bool]:
    """A model's configuration, its tokenizer or processor, and whether it is a vision-language model.

    Raises CheckpointError, naming the folder, for whatever transformers or tokenizers raise.
    """
    with explained(folder), without_reports():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        sees = hasattr(config, "vision_config")
        _refuse_unknown_names(folder, config)
        return config, load_processor(folder) if sees else AutoTokenizer.from_pretrained(folder), sees


def _refuse_unknown_names(folder: Path, config: Any) -> None:
    """Raise CheckpointError, naming the key, for an activation or a kind of positions that transformers lacks."""
    for name in ("", "text_config", "vision_config"):
        part = getattr(config, name, None) if name else config
        named = [(key, getattr(part, key, None), ACT2FN) for key in ACTIVATIONS]
        # Vision parts have kinds of their own, such as Qwen-VL's `axial`, which their classes know.
        ropes = getattr(part, "rope_parameters", None) if name != "vision_config" else None
        for rope in (ropes, *ropes.values()) if isinstance(ropes, dict) else ():
            if isinstance(rope, dict) and rope.get("rope_type") not in (None, "default"):
                named.append(("rope_parameters.rope_type", rope["rope_type"], ROPE_INIT_FUNCTIONS))
        for key, given, known in named:
            if isinstance(given, str) and given not in known:
                where = f"{name}.{key}" if name else key
                raise CheckpointError(
                    f"{folder / 'config.json'}: `{where}` is {given!r}, which transformers does not have; correct it or"
                    " fetch the file again"
                )


def _refuse_unloadable(folder: Path) -> None:
    """Raise CheckpointError for what can be found in the files without making a model of them."""
    config = read_config(folder)
    checkpoint = Checkpoint.open(folder)
    refuse_unasked(folder, config, checkpoint.keys())
    read_generation(folder)
    check_files(folder)
    read_vocabulary(folder)
    refuse_oversized(folder, config, checkpoint.shapes())
    refuse_oversized_pictures(folder)
    report = report_from_headers(folder, checkpoint)
    if report is not None:
        refuse_unfit(folder, report)
