"""Refuses a loaded model that would answer nonsense: weights that are not numbers, token ids that are no rows.

Knows transformers' models and processors, and prompts; generates no answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from evovlm.engines.prompts import Prompt
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.configuration import read_config, text_config_of
from evovlm.models.families import family_of
from evovlm.models.finite import is_finite, is_quantised
from evovlm.models.library_faults import explained
from evovlm.models.open_model import ties_head
from evovlm.models.processor_files import processor_faults
from evovlm.models.token_ids import id_faults
from evovlm.system.errors import CheckpointError, DataError

log = logging.getLogger(__name__)

MOST_TIMES = 4  # as many positions as a model has may a prompt take
UNRUNNABLE = "transformers cannot run it as it is configured"


def refuse_unsound(folder: Path, model: Any, processor: Any, *, sees: bool) -> None:
    """Raise CheckpointError if what the model computes with is not finite, quantised, or no row of its table.

    That is: a weight or stored buffer has NaN or infinity, weights are quantised and config.json does not say how, a
    head is tied and stored with other values, or token ids do not fit the embedding table or each other.
    """
    stored = model.state_dict().keys()
    buffers = ((name, buffer) for name, buffer in model.named_buffers() if name in stored)
    for name, weight in chain(model.named_parameters(), buffers):
        if not is_finite(weight):
            raise CheckpointError(f"{folder}: {name} holds NaN or infinite values; download the checkpoint again")
    config = read_config(folder)
    _refuse_two_heads(folder, config, model)
    if "quantization_config" not in config:
        _refuse_quantised(folder)
    configs = {"config.json": config}
    if "text_config" in config:
        configs["config.json's text_config"] = config["text_config"]
    tokenizer = processor.tokenizer if sees else processor
    rows = len(model.get_input_embeddings().weight)
    for fault in id_faults(configs, tokenizer.get_vocab(), rows, _placeholder(processor, config) if sees else None):
        # End tokens come from generation_config.json or the tokenizer first; `ends_of` refuses if there is none.
        if fault.fatal and fault.key != "eos_token_id":
            raise CheckpointError(f"{folder}: {fault.text}")
    for fault in processor_faults(folder, config, tokenizer.get_vocab()) if sees else ():
        raise CheckpointError(f"{folder}: {fault.text}")


@contextmanager
def known_kind(folder: Path, model: Any) -> Iterator[None]:
    """Raise CheckpointError if an engine does not find the parts that it expects, or transformers cannot run them.

    A configuration that can be loaded may still ask for a mask or a cache that its class does not have.
    """
    with explained(folder, UNRUNNABLE, "correct its config.json, or fetch the folder again"):
        try:
            yield
        except (AttributeError, TypeError) as error:
            raise CheckpointError(
                f"{folder} is a {type(model).__name__}, which evovlm cannot ask, because it is not built like the ones"
                f" that it knows ({error}); choose another, such as a LLaVA, InternVL (-hf) or Gemma 3 model"
            ) from error


@torch.inference_mode()
def read_one_token(decoder: Any) -> None:
    """Let a decoder read one token, with a mask and a cache as answers use them. Raises what transformers raises."""
    token = torch.zeros((1, 1), dtype=torch.int64, device=decoder.embed_tokens.weight.device)
    decoder(input_ids=token, past_key_values=DynamicCache(config=decoder.config), use_cache=True)


def _refuse_two_heads(folder: Path, config: dict[str, Any], model: Any) -> None:
    """Raise CheckpointError if the configuration ties the head, and the file has one of other values."""
    head = model.get_output_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False) or ties_head(config, text_config_of(config))
    if not tied or head is None:
        return
    weight, table = head.weight, model.get_input_embeddings().weight
    if weight is not table and not torch.equal(weight, table):
        raise CheckpointError(
            f"{folder}: config.json ties the head to the embeddings (tie_word_embeddings), but the file has an lm_head"
            " of other values, and loaders differ in which they use; set it to false to use the file's"
        )


def _refuse_quantised(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    for key in checkpoint.keys():
        dtype = checkpoint.dtype(key)
        if is_quantised(key, dtype):
            raise CheckpointError(
                f"{folder}: {key} is quantised ({str(dtype).removeprefix('torch.')}), and config.json has no"
                " quantization_config to say how; use the unquantised checkpoint"
            )


def _placeholder(processor: Any, config: dict[str, Any]) -> str | None:
    """The token that stands for a picture's features, None if the processor does not say."""
    # The processor's comes last: some name what a user writes, and replace it by placeholders (Gemma 3, Aya).
    known = family_of(config).placeholder or getattr(processor.tokenizer, "image_token", None)
    return known or getattr(processor, "image_token", None)


def ends_of(model: Any, tokenizer: Any, rows: int) -> list[int]:
    """The end tokens' ids. Raises CheckpointError if there is none, or one is no row of the table's `rows` rows."""
    given = model.generation_config.eos_token_id
    given = tokenizer.eos_token_id if given is None else given
    if given is None:
        raise CheckpointError(f"{model.name_or_path}: no end token; set `eos_token_id` in generation_config.json")
    ends = given if isinstance(given, list) else [given]
    if not ends or not all(0 <= end < rows for end in ends):
        raise CheckpointError(
            f"{model.name_or_path}: eos_token_id is {given}, but the embedding table has rows 0 to {rows - 1}; correct"
            " it in generation_config.json"
        )
    pad = model.generation_config.pad_token_id
    if pad is not None and not (isinstance(pad, int) and 0 <= pad < rows):
        model.generation_config.pad_token_id = ends[0]  # `generate` fills ended rows with it
    return ends


def refuse_unfit(prompt: Prompt, tokenizer: Any, rows: int, config: Any) -> None:
    """Raise DataError if a prompt is not one that the model can read.

    It can read none without tokens, with one that is no row of the embedding table, or with more than MOST_TIMES the
    positions in `config`, a transformers configuration. rows: of the embedding table.
    """
    _refuse_foreign(prompt, tokenizer, rows)
    positions = positions_of(config.get_text_config())
    if positions is not None and len(prompt.ids) > MOST_TIMES * positions and _is_long(prompt, positions):
        raise DataError(
            f"item {prompt.key}: its prompt has {len(prompt.ids):,} tokens, the model {positions:,} positions"
            f" (`max_position_embeddings`); more than {MOST_TIMES} times as many are refused, so shorten the question"
            " or the preset's template"
        )


def warn_of_long(prompts: Sequence[Prompt], config: Any) -> None:
    """Warn of prompts with more tokens than the positions in `config`, which the model was not made for."""
    positions = positions_of(config.get_text_config())
    if positions is None:
        return
    long = [prompt for prompt in prompts if _is_long(prompt, positions)]
    longest = max(long, key=lambda prompt: len(prompt.ids), default=None)
    if longest is None:
        return
    log.warning(
        "%d of %d prompts have more tokens than the model has positions (%s, `max_position_embeddings`), up to %s in"
        " item %s: it was not made for them, and its answers to them may mean nothing",
        *(len(long), len(prompts), f"{positions:,}", f"{len(longest.ids):,}", longest.key),
    )


def _is_long(prompt: Prompt, positions: int) -> bool:
    # A picture's tokens may share positions; reading that from the device is seldom needed.
    return len(prompt.ids) > positions and (prompt.axes is None or int(prompt.axes.max()) >= positions)


def positions_of(config: Any) -> int | None:
    """The number of positions that a text model was made for, scaled ones included; None if it does not say."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    factor, original = (scaling.get(name) for name in ("factor", "original_max_position_embeddings"))
    if isinstance(factor, int | float) and isinstance(original, int):
        return max(positions, int(factor * original))
    return positions


def _refuse_foreign(prompt: Prompt, tokenizer: Any, rows: int) -> None:
    """Raise DataError, naming the item, if its prompt has no tokens, or one that is no row of the embedding table."""
    if not len(prompt.ids):
        raise DataError(
            f"item {prompt.key}: the tokenizer makes no tokens of its prompt; give it a text, or check `normalizer` and"
            " `pre_tokenizer` in tokenizer.json"
        )
    foreign = int(prompt.ids.max())
    if foreign >= rows:
        raise DataError(
            f"item {prompt.key}: its token {tokenizer.convert_ids_to_tokens(foreign)!r} has the id {foreign}, but the"
            f" model's embedding table has {rows} rows; take tokenizer and weights from the same revision"
        )
