"""Opens the models that a recipe names: resolves the name, finds the language tower, reads the vocabulary.

Knows where models are stored (folder, hub cache, embedded zoo); compares nothing and merges nothing. Only weights,
JSON and tokenizer files of a repository are read; code that a config asks for is never run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from evovlm.models._pickled import NO_GGUF, WEIGHTS
from evovlm.models.checkpoint import INDEX, SINGLE, Checkpoint
from evovlm.models.configuration import read_config, read_generation, refuse_oversized, text_config_of
from evovlm.models.families import family_of_tower
from evovlm.models.foreign_kinds import foreign_kind
from evovlm.models.layouts import EMBEDDING, LAYER, OUTPUT_HEAD, Layout, detect_layout, named_twice
from evovlm.models.model_files import check_files
from evovlm.models.vocabulary import read_vocabulary
from evovlm.system.errors import CheckpointError
from evovlm.system.files import counted_from
from evovlm.system.hub_cache import Origin, commit_of, origin_of

ZOO = "zoo:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# No pickles, no code.
WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt", "README.md", "LICENSE*")
# The same for a checkpoint that is to be converted, which has no safetensors.
WANTED_PICKLED = (*WEIGHTS, *(pattern for pattern in WANTED if pattern != "*.safetensors"))


@dataclass(frozen=True)
class OpenModel:
    """One model of a recipe, opened lazily."""

    label: str  # the source's name in the recipe, or the recipe's `base_label`; unique among a recipe's models
    folder: Path
    config: dict[str, Any]  # the content of config.json
    text_config: dict[str, Any]  # the language tower's part of it: see `text_config_of`
    checkpoint: Checkpoint
    layout: Layout
    tokens: dict[str, int] | None  # token to id; None: no tokenizer in the folder
    tower: dict[str, str]  # canonical name -> key in the file; tied models have no lm_head.weight
    origin: Origin | None = None  # on the hub, if the folder is a snapshot in its cache or a converted copy of one
    is_base: bool = False  # whether it is the recipe's base; a source may be called `base` too
    whole: bool = False  # whether `tower` has the vision part too: see `with_vision`

    between: frozenset[str] = frozenset()  # keys of layers that attend to the picture: see `without_cross_attention`

    def carries(self, key: str) -> bool:
        """Whether a key in the file is outside the language tower, so that an owner's tensor is carried over."""
        return key in self.between or self.layout.canonical(key) is None

    @property
    def place(self) -> str:
        """Its place in the recipe, as messages name it: `base`, or `sources.NAME`."""
        return "base" if self.is_base else f"sources.{self.label}"

    def bytes_on(self, device: str) -> int:
        """Bytes of its weights once they are loaded: in float32 on a CPU, as stored on a GPU."""
        checkpoint = self.checkpoint
        return sum(
            prod(checkpoint.shape(key)) * (4 if device == "cpu" else checkpoint.dtype(key).itemsize)
            for key in checkpoint.keys()
        )


def resolve_folder(
    model: str, revision: str | None, root: Path, *, download: bool = False, wanted: Sequence[str] = WANTED
) -> Path:
    """The folder of a model that a recipe names.

    `model`: `zoo:NAME`, a folder (relative to `root`), or a hub id, which is looked up in the local cache and
    downloaded only with `download`. `wanted`: patterns of the files to look for on the hub. Raises CheckpointError,
    which names the next step, if it cannot be found.
    """
    if model.startswith(ZOO):
        from evovlm.models.zoo_models import zoo_folder

        embedded: Path = zoo_folder(model.removeprefix(ZOO))
        return embedded
    folder = counted_from(root, model)
    if folder.is_dir():
        return folder
    if os.path.lexists(folder):
        why = NO_GGUF if folder.suffix == ".gguf" else f"is a file; name the folder with config.json and {SINGLE}"
        raise CheckpointError(f"{folder} {why}")
    if not HUB_ID.fullmatch(model):
        raise CheckpointError(f"{model}: no such folder (looked for {folder}), and not a hub id (OWNER/NAME)")
    return _from_hub(model, revision, folder, download=download, wanted=wanted)


def open_model(
    label: str, model: str, revision: str | None, root: Path, *, download: bool = False, is_base: bool = False
) -> OpenModel:
    """Open a model that a recipe names: verify its files, find its language tower, read its vocabulary.

    `label`: the source's name, or the base's label; `is_base`: whether it is the base; the other arguments as for
    `resolve_folder`. Raises CheckpointError if the model is not found, damaged, in an unsafe format, or of an unknown
    layout.
    """
    folder = resolve_folder(model, revision, root, download=download)
    checkpoint = open_weights(folder, model, revision)
    config = read_config(folder)
    refuse_oversized(folder, config, checkpoint.shapes())
    read_generation(folder)
    check_files(folder)
    keys = checkpoint.keys()
    kind = foreign_kind(config, keys)
    if kind.merged is not None:
        raise CheckpointError(f"{folder} {kind.merged}")
    layout = detect_layout(keys, folder)
    twice = named_twice(keys, layout)
    if twice is not None:
        raise CheckpointError(
            f"{folder} holds one tensor under two names, {twice[0]} and {twice[1]}, and nothing says which one counts;"
            " save the model again with transformers, or remove the tensors of the other naming"
        )
    named = ((layout.canonical(key), key) for key in keys)
    tower = {name: key for name, key in named if name is not None}
    whole = set(tower.values())
    tower, text_config = without_cross_attention(tower, text_config_of(config))
    between = whole - set(tower.values())
    _refuse_gaps(folder, tower)
    _drop_copied_head(tower, checkpoint, config, text_config)
    return OpenModel(
        label=label,
        folder=folder,
        config=config,
        text_config=text_config,
        checkpoint=checkpoint,
        layout=layout,
        tokens=read_vocabulary(folder),
        tower=tower,
        origin=origin_of(folder),
        is_base=is_base,
        between=frozenset(between),
    )


def with_vision(model: OpenModel) -> OpenModel:
    """The model with its vision tower and projector beside its language tower, to be merged like it.

    They are named without the prefixes in which layouts differ. Integer buffers stay outside.
    """
    if model.layout.kind != "vlm":
        return model
    beside = {
        key.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower."): key
        for key in model.checkpoint.keys()
        if model.layout.canonical(key) is None and model.checkpoint.dtype(key).is_floating_point
    }
    return replace(model, tower={**model.tower, **beside}, whole=True)


def without_cross_attention(
    tower: dict[str, str], text_config: dict[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """A tower and its configuration as the text model has them that it was made from.

    Llama 3.2 Vision has layers that attend to the picture between those of a Llama: they belong to what is carried
    over, and the layers after them are counted on.
    """
    family = family_of_tower(text_config)
    between = text_config.get(family.inserted) if family.inserted else None
    if not isinstance(between, list):
        return tower, text_config
    kept = {}
    for name, key in tower.items():
        layer = LAYER.match(name)
        if layer is None:
            kept[name] = key
        elif int(layer[1]) not in between:
            earlier = sum(index < int(layer[1]) for index in between)
            kept[f"model.layers.{int(layer[1]) - earlier}.{name[layer.end() :]}"] = key
    depth = text_config.get("num_hidden_layers")
    own = {key: value for key, value in text_config.items() if key != family.inserted}
    own["model_type"] = family.towers[0]
    if isinstance(depth, int):
        own["num_hidden_layers"] = depth - len(between)
    return kept, own


def find_to_convert(model: str, revision: str | None, root: Path, *, download: bool = False) -> Path:
    """The folder of a pickle checkpoint, as `resolve_folder` finds it; nothing is fetched if the hub has safetensors.

    Without a connection the local cache is read, as by every other command. Raises CheckpointError if the hub has
    safetensors, or the model cannot be found.
    """
    is_folder = counted_from(root, model).is_dir()
    if download and not is_folder and HUB_ID.fullmatch(model):
        from huggingface_hub import list_repo_files
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            files = list_repo_files(model, revision=revision)
        except (HfHubHTTPError, HFValidationError) as error:  # no such model, or no right to read it
            raise CheckpointError(f"{model} cannot be looked up on the hub: {error}") from error
        except Exception:  # offline, or no connection, for which the client's transport has errors of its own
            files = []
        if {SINGLE, INDEX} & set(files):
            raise CheckpointError(f"{model} has safetensors on the hub; use {model} as it is, with --download")
    return resolve_folder(model, revision, root, download=download, wanted=WANTED_PICKLED)


def open_weights(folder: Path, model: str, revision: str | None) -> Checkpoint:
    """The weights in the folder that `resolve_folder` found for a model. Raises as `Checkpoint.open` does."""
    from_hub = HUB_ID.fullmatch(model) and commit_of(folder) is not None
    return Checkpoint.open(folder, model if from_hub else None, revision)


def _refuse_gaps(folder: Path, tower: Iterable[str]) -> None:
    """Raise CheckpointError if the layers are not numbered 0, 1, 2, ...: their count is taken from the highest."""
    numbers = {int(found[1]) for name in tower if (found := LAYER.match(name)) is not None}
    lacking = next(number for number in range(len(numbers) + 1) if number not in numbers)
    if lacking < len(numbers):
        raise CheckpointError(
            f"{folder}: the files hold layer {max(numbers)}, but not layer {lacking}; complete the folder or download"
            " it again"
        )


def ties_head(config: Mapping[str, Any], text_config: Mapping[str, Any]) -> bool:
    """Whether config.json ties the head to the embeddings, at its top or in `text_config`.

    Checkpoints say it in either place, and transformers' classes differ in where they look.
    """
    return bool(config.get("tie_word_embeddings") or text_config.get("tie_word_embeddings"))


def _drop_copied_head(
    tower: dict[str, str], checkpoint: Checkpoint, config: Mapping[str, Any], text_config: Mapping[str, Any]
) -> None:
    """Remove a tied head's copy of the embeddings from the tower: every loader ties it, so it must not be merged."""
    if OUTPUT_HEAD not in tower or EMBEDDING not in tower or not ties_head(config, text_config):
        return
    head, table = (checkpoint.tensor(tower[name]) for name in (OUTPUT_HEAD, EMBEDDING))
    if head.dtype == table.dtype and torch.equal(head, table):
        del tower[OUTPUT_HEAD]


def _from_hub(model: str, revision: str | None, folder: Path, *, download: bool, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    at = f"{model}@{revision}" if revision else model
    named = f"{model} --revision {revision}" if revision else model
    try:
        found = snapshot_download(model, revision=revision, local_files_only=not download, allow_patterns=list(wanted))
    except LocalEntryNotFoundError as error:
        way_out = (
            "check the network"
            if download
            else f"fetch it first with `hf download {named}`, or with --download where the command has it"
        )
        raise CheckpointError(f"{at}: no such folder ({folder}) and not in the local hub cache; {way_out}") from error
    except (OSError, ValueError) as error:  # the hub client's own errors: not found, gated, offline
        raise CheckpointError(f"{at} cannot be fetched from the hub: {error}") from error
    return counted_from(Path(), found)
