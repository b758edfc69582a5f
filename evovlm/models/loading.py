"""What transformers says about loading a checkpoint: weights that are missing, of another shape, or left over.

Knows transformers' loader and configurations; no recipes and no answers. transformers itself fills missing weights with
random numbers and prints a table, so whoever loads a model has to ask for the report and refuse.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evovlm.models.checkpoint import Checkpoint
from evovlm.models.foreign_files import ADAPTER, ADAPTER_WEIGHTS
from evovlm.models.layouts import BUFFERS
from evovlm.models.library_faults import explained
from evovlm.system.errors import CheckpointError

MOST_NAMED = 3
# What no answer depends on: tables that models compute, and the pooling head of a vision tower that is not asked for.
# transformers itself leaves out more, by architecture, such as the heads that predict several tokens.
UNUSED = re.compile(r"inv_freq$|(cos|sin)_cached$|(^|\.)position_ids$|(^|\.)vision_(model|tower)\.head\.")
# Parts of names that change what a model's own weights do, wherever they stand: adapters, and scales of quantised ones.
CHANGES = re.compile(r"lora_|adapter|modules_to_save|base_layer|[._]scales?(_inv)?$|zero_?points?$|qzeros$|g_idx$")
# Whole parts that see or hear; a configuration without them is another model's.
SENSES = re.compile(r"vis(ion|ual)|image|projector|audio|speech")


@dataclass(frozen=True)
class LoadingReport:
    """Names of weights as the model has them in memory; tied heads and computed buffers are neither missing nor left.

    left_over: those that the model should read by their names, but has no place for: in one of its own parts, such as
    a layer too many; adapters; parts that see. beside: those of whole parts that it does not have, such as the value
    head of its training.
    """

    missing: tuple[str, ...]
    mismatched: tuple[str, ...]  # each with both shapes, as text
    left_over: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Say what is missing, of another shape, or left over; empty if checkpoint and configuration fit."""
        parts = []
        if self.missing:
            parts.append(f"lacks {_counted(self.missing)} that its configuration asks for: {first_names(self.missing)}")
        if self.mismatched:
            counted, some = _counted(self.mismatched), first_names(self.mismatched)
            parts.append(f"has {counted} of another shape than its configuration says: {some}")
        if self.left_over:
            counted, some = _counted(self.left_over), first_names(self.left_over)
            parts.append(f"holds {counted} that its configuration has no place for: {some}")
        return "; ".join(parts)

    def way_out(self) -> str:
        """What to do about what `in_words` says."""
        if self.missing or self.mismatched:
            return "complete the folder or download it again"
        if any(CHANGES.search(name) for name in self.left_over):
            return "merge the adapter into its model first, or take the unquantised checkpoint"
        return "take weights and config.json from the same revision"


def refuse_unfit(folder: Path, report: LoadingReport) -> None:
    """Raise CheckpointError, naming the first weights, if any is missing, of another shape or left over."""
    if said := report.in_words():
        lost = report.missing or report.mismatched
        effect = "random numbers would stand in their place" if lost else "the answers would be those of another model"
        raise CheckpointError(f"{folder} {said}; {effect}: {report.way_out()}")


def load_reporting(kind: Any, folder: Path, **more: Any) -> tuple[Any, LoadingReport]:
    """Load with a transformers class and return the model and the report; nothing is printed.

    A head that only the language model's own configuration ties is tied. Raises what transformers raises.
    """
    with _no_table(), _without_adapter(folder) as place:
        model, info = kind.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **more
        )
    model.name_or_path = str(folder)
    return model, _report(model, info)


def report_from_headers(folder: Path, checkpoint: Checkpoint) -> LoadingReport | None:
    """The report that loading would give, from headers and configuration alone; None if transformers cannot say.

    It cannot for architectures that it does not know and for quantised weights.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    weights = {
        key: torch.empty(checkpoint.shape(key), dtype=checkpoint.dtype(key), device="meta") for key in checkpoint.keys()
    }
    try:
        with explained(folder):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if getattr(config, "quantization_config", None) is not None:
                return None
            kind: Any = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
            with _no_table():
                model, info = _class_of(config, kind).from_pretrained(
                    None,
                    config=config,
                    state_dict=weights,
                    device_map={"": "meta"},
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
            return _report(model, info)
    except CheckpointError:
        return None


def _class_of(config: Any, kind: Any) -> Any:
    """The class that an Auto class makes of a configuration.

    One that stands for a single class is looked up, because building a model takes as long as all the rest.
    """
    found = kind._model_mapping.get(type(config), None)
    if isinstance(found, type) and getattr(found, "config_class", None) is type(config):
        return found
    with torch.device("meta"):
        return type(kind.from_config(config))


def _report(model: Any, info: Mapping[str, Any]) -> LoadingReport:
    missing = set(info["missing_keys"])
    _tie_as_meant(model, missing)
    mismatched = sorted(
        f"{name} ({list(stored)} in the file, {list(wanted)} in the configuration)"
        for name, stored, wanted in info["mismatched_keys"]
    )
    unexpected = sorted(name for name in info["unexpected_keys"] if not _is_unused(name))
    own = {name for name, _ in model.named_children()}
    left = [name for name in unexpected if name.partition(".")[0] in own or CHANGES.search(name) or SENSES.search(name)]
    beside = [name for name in unexpected if name not in left]
    return LoadingReport(tuple(sorted(missing)), tuple(mismatched), tuple(left), tuple(beside))


def _is_unused(name: str) -> bool:
    return name.endswith(BUFFERS) or UNUSED.search(name) is not None


def _tie_as_meant(model: Any, missing: set[str]) -> None:
    """Tie the head of a vision-language model whose `text_config` alone says so, as its authors' checkpoints do.

    Some classes of transformers read the flag at the top of config.json only, and would give the model a random head.
    """
    text = model.config.get_text_config()
    inside, top = (getattr(config, "tie_word_embeddings", False) for config in (text, model.config))
    if missing and inside and not top:
        model.config.tie_word_embeddings = True
        model.tie_weights(missing_keys=missing)


@contextmanager
def _without_adapter(folder: Path) -> Iterator[Path]:
    """A folder in which transformers finds no adapter, which it would load if peft is installed: one of links."""
    if not os.path.lexists(folder / ADAPTER):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="evovlm-") as name:
        place = Path(name)
        for path in folder.iterdir():
            if path.name not in (ADAPTER, *ADAPTER_WEIGHTS):
                (place / path.name).symlink_to(path.absolute())
        yield place


@contextmanager
def _no_table() -> Iterator[None]:
    """Keep transformers' table of loaded weights off the terminal; what it says is in the report."""
    logger = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)} weight{'s' * (len(names) != 1)}"


def first_names(names: tuple[str, ...]) -> str:
    """The first few names and the number of others, for messages."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
