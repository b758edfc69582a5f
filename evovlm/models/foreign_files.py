"""Recognises folders that are no checkpoint of transformers by the files in them: adapters, GGUF, diffusers, others.

Knows names of files and what little of their JSON tells where a model came from; reads no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evovlm.models.model_files import read_object
from evovlm.system.errors import CheckpointError

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

# The files by which a format is known, and what to say about it. The first row that fits is used.
FORMATS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("model_index.json",),
        "is a diffusers pipeline, which makes pictures; evovlm merges language models and vision-language models that"
        " answer in text: choose one of those",
    ),
    (
        ("diffusion_pytorch_model*",),
        "is a part of a diffusers pipeline, which makes pictures; evovlm merges language models and vision-language"
        " models that answer in text: choose one of those",
    ),
    (
        ("*.gguf",),
        "has weights in GGUF, llama.cpp's format, which are mostly quantised; take the original checkpoint, with"
        " safetensors",
    ),
    (
        ("consolidated.*.pth",),
        "is in Meta's own layout (consolidated.*.pth, params.json), which transformers cannot load; take the version"
        " for transformers, with config.json and model.safetensors (the same repository has it beside `original/`, or"
        " its name ends in -hf)",
    ),
    (
        ("consolidated*.safetensors",),
        "is in Mistral's own layout (consolidated.safetensors, params.json), whose tensors have other names; fetch the"
        " files for transformers too: config.json, and model.safetensors or its shards with their index",
    ),
    (
        ("tf_model*.h5", "flax_model*.msgpack"),
        "has weights for TensorFlow or Flax only; take a version with safetensors",
    ),
    (
        ("*.onnx", "onnx/*.onnx", "openvino_model.xml", "*.engine", "*.tflite", "*.mlmodel", "*.mlpackage", "*.nemo"),
        "has weights in a format for running only (ONNX and its like); take the original checkpoint, with safetensors",
    ),
    (("weights*.npz",), "has weights in MLX's format; take the original checkpoint, with safetensors"),
)


def foreign_files(folder: Path) -> str | None:
    """What a folder without a transformers checkpoint holds instead, and the next step; None if nothing known.

    The sentence goes on from the folder's name. Call it for folders that lack model.safetensors and its index.
    """
    if (folder / ADAPTER).is_file() or any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        return _adapter(folder)
    for patterns, text in FORMATS:
        if any(True for pattern in patterns for _ in folder.glob(pattern)):
            return text
    return _subfolders(folder)


def adapter_beside(folder: Path) -> str | None:
    """What to say of an adapter that lies beside whole weights, without the folder; None if there is none.

    With peft installed, transformers would add it to the model.
    """
    names = [name for name in (ADAPTER, *ADAPTER_WEIGHTS) if (folder / name).is_file()]
    if not names:
        return None
    return (
        f"{' and '.join(names)} beside whole weights: the adapter is not used; if it is not in these weights yet,"
        " merge it with peft's `merge_and_unload` first, else delete it"
    )


def _adapter(folder: Path) -> str:
    base = _known(folder / ADAPTER, lambda content: content.get("base_model_name_or_path"))
    of = f" for {base}" if isinstance(base, str) and base else ""
    return (
        f"is a LoRA adapter{of}, not a model; merge it into its model first (in Python: peft's"
        " `PeftModel.from_pretrained(...).merge_and_unload()`, then `save_pretrained`) and name that folder"
    )


def _subfolders(folder: Path) -> str | None:
    """A folder whose parts are checkpoints of their own, as NVILA's (`llm`, `vision_tower`, `mm_projector`)."""
    inside = sorted(
        path.parent.name
        for pattern in ("*/model.safetensors", "*/model.safetensors.index.json")
        for path in folder.glob(pattern)
        if (path.parent / "config.json").is_file()
    )
    if not inside:
        return None
    part = "llm" if "llm" in inside else inside[0]
    return (
        f"has no weights of its own, but checkpoints in its folders {', '.join(dict.fromkeys(inside))}; name one of"
        f" them, such as {folder / part}. A vision-language model kept in such parts cannot be merged as a whole"
    )


def _known(path: Path, value: Callable[[dict[str, Any]], Any]) -> Any:
    """A value of a JSON file; None if the file cannot be read, which is not its reader's concern."""
    try:
        content = read_object(path)
    except CheckpointError:
        return None
    return None if content is None else value(content)
