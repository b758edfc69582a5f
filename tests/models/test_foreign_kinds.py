"""Kinds that cannot be merged or asked are refused with one sentence, the same one wherever they are met."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.engines.hf import Engine
from evovlm.models.configuration import text_config_of
from evovlm.models.foreign_kinds import quantisation
from evovlm.models.open_model import open_model
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import make_tokenizer, save_llm

TOWER = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_llm(tmp_path / "x", rows=600, tokenizer=make_tokenizer(600))


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"architectures": ["LlavaMistralForCausalLM"], "mm_vision_tower": "clip"}, ["LlavaMistralFor", "llava-hf/"]),
        ({"model_type": "qwen3_5"}, ["Qwen3.5", "merges its language tower", "cannot ask it yet"]),
        ({"model_type": "gemma4"}, ["Gemma 4", "merges its language tower", "cannot ask it yet"]),
        ({"model_type": "mllama"}, ["Llama 3.2 Vision", "merges its language tower", "cannot ask it yet"]),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "x.Y"}}, ["needs remote code", "'mine'", "never runs"]),
        ({"model_type": "mine"}, ["'mine'", "does not know"]),
        ({"model_type": None}, ["model_type", "download config.json again"]),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, ["GPTQ, 4 bits", "unquantised"]),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, ["AWQ, 4 bits", "unquantised"]),
        ({"quantization_config": {"load_in_8bit": True}}, ["bitsandbytes, 8 bits", "unquantised"]),
        ({"quantization_config": {"quant_method": "new"}}, ["see quantization_config", "unquantised"]),
    ],
)
def test_a_kind_that_cannot_be_asked_is_refused_by_name_but_opened(model: Path, config: Any, parts: list[str]):
    configure(model, **config)
    assert open_model("x", "x", None, model.parent).tower  # its tensors can be read
    with pytest.raises(CheckpointError) as caught:
        Engine.load(model)
    for part in (str(model), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}, "InternVL3-8B-hf"),
    ],
)
def test_a_kind_that_cannot_even_be_merged_is_not_opened(model: Path, config: Any, part: str):
    configure(model, **config)
    with pytest.raises(CheckpointError, match=part):
        open_model("x", "x", None, model.parent)


def test_quantised_weights_are_known_by_their_names_alone(model: Path):
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.qweight"] = torch.zeros(8, 8, dtype=torch.int32)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="GPTQ or AWQ"):
        Engine.load(model)
    assert quantisation({}, [*TOWER, "model.layers.0.mlp.up_proj.weight.absmax"]) == quantisation(
        {"quantization_config": {"quant_method": "bitsandbytes"}}, TOWER
    )
    assert quantisation({"quantization_config": None}, TOWER) is None


def test_qwen_vls_on_the_hub_have_the_towers_settings_at_the_top():
    config = {"model_type": "qwen2_5_vl", "hidden_size": 64, "vision_config": {"depth": 2}}
    assert text_config_of(config) == {"model_type": "qwen2_5_vl_text", "hidden_size": 64}
    assert text_config_of({"model_type": "llava", "text_config": {"hidden_size": 64}}) == {"hidden_size": 64}
