"""How a model would be asked is found out before any work: measured if it is small, by a cut-down copy if not."""

import json
from pathlib import Path

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from evovlm.engines import askable
from evovlm.engines.askable import how_asked
from evovlm.models.open_model import OpenModel, open_model
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer(600)
    save_llm(folder / "ja", rows=600, tokenizer=tokenizer)
    seeing = make_tokenizer(600, added=("<image>", "<pad>"))
    save_vlm(folder / "vlm", rows=640, tokenizer=seeing)
    torch.manual_seed(0)
    small = {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    MixtralForCausalLM(MixtralConfig(**small, **heads)).save_pretrained(folder / "experts")
    tokenizer.save_pretrained(folder / "experts")
    return folder


def opened(models: Path, name: str) -> OpenModel:
    return open_model(name, name, None, models)


@pytest.mark.parametrize(("name", "path"), [("ja", "fast"), ("vlm", "fast"), ("experts", "transformers")])
def test_small_models_are_measured_and_large_ones_tried_as_a_cut_down_copy(
    models: Path, name: str, path: str, monkeypatch: pytest.MonkeyPatch
):
    small = how_asked(opened(models, name))
    assert (small.path, "measured here" in small.text) == (path, True)
    assert small.tokens_per_second is not None
    assert small.tokens_per_second > 0
    monkeypatch.setattr(askable, "SMALL", 0)
    large = how_asked(opened(models, name))
    assert (large.path, large.tokens_per_second) == (path, None)
    assert "cut-down copy" in large.text


@pytest.mark.parametrize("limit", [0, askable.SMALL])
def test_a_model_that_cannot_be_asked_is_told_why(
    models: Path, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(askable, "SMALL", limit)
    folder = save_llm(tmp_path / "x", rows=600, tokenizer=make_tokenizer(600))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "qwen3_5"}))
    found = how_asked(opened(tmp_path, "x"))
    assert found.path == "no"
    assert found.text.startswith("is a Qwen3.5: evovlm merges its language tower")
