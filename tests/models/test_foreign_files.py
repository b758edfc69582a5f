"""Folders that are no checkpoint of transformers are called by name, with the next step, when a model is opened."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evovlm.models.open_model import open_model
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import make_tokenizer, reshard, save_llm

FOLDERS = {
    "adapter": (
        ["adapter_config.json", "adapter_model.safetensors"],
        ["LoRA adapter for org/base", "merge_and_unload"],
    ),
    "pickled-adapter": (["adapter_model.bin"], ["is a LoRA adapter, not a model"]),
    "diffusers": (["model_index.json"], ["diffusers pipeline", "choose one of those"]),
    "unet": (["diffusion_pytorch_model.safetensors", "config.json"], ["part of a diffusers pipeline"]),
    "gguf": (["model.Q4_K_M.gguf"], ["GGUF", "take the original checkpoint"]),
    "meta": (["consolidated.00.pth", "params.json"], ["Meta's own layout", "-hf"]),
    "mistral": (["consolidated.safetensors", "params.json"], ["Mistral's own layout", "config.json"]),
    "flax": (["flax_model.msgpack", "config.json"], ["TensorFlow or Flax", "safetensors"]),
    "onnx": (["model.onnx"], ["ONNX", "take the original checkpoint"]),
    "parts": (["llm/config.json", "llm/model.safetensors", "vision_tower/config.json"], ["parts/llm", "such parts"]),
}


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_folder_of_another_format_is_called_by_name_with_the_next_step(name: str, tmp_path: Path):
    files, parts = FOLDERS[name]
    for file in files:
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    with pytest.raises(CheckpointError) as caught:
        open_model("x", name, None, tmp_path)
    for part in (str(tmp_path / name), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_a_folder_is_told_so(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"model\.gguf is in GGUF, a format of quantised weights"):
        open_model("x", "model.gguf", None, tmp_path)


def test_a_stray_file_beside_the_shards_of_an_index_is_refused(tmp_path: Path):
    folder = save_llm(tmp_path / "x", rows=600, tokenizer=make_tokenizer(600))
    shutil.copy(folder / "model.safetensors", tmp_path / "whole")
    reshard(folder, 2)
    shutil.copy(tmp_path / "whole", folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has model\.safetensors beside model\.safetensors\.index\.json, which"):
        open_model("x", "x", None, tmp_path)


def test_an_index_that_names_the_one_file_is_no_second_set(tmp_path: Path):
    folder = save_llm(tmp_path / "x", rows=600, tokenizer=make_tokenizer(600))
    tensors = {"model.norm.weight": torch.ones(2)}
    save_file(tensors, tmp_path / "unused.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert open_model("x", "x", None, tmp_path).tower
