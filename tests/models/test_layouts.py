from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from evovlm.models import layouts as towers
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.layouts import LAYOUTS, Layout, detect_layout
from evovlm.models.open_model import open_model
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import save_llm, save_vlm

HUB, MEMORY, _, _, PLAIN = LAYOUTS
NAMES = ["model.embed_tokens.weight", "model.layers.11.self_attn.q_proj.bias", "model.norm.weight", "lm_head.weight"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_from_the_file(layout: Layout, name: str):
    assert layout.canonical(layout.in_file(name)) == name


def test_names_in_the_file_are_those_of_the_hub():
    assert HUB.in_file("lm_head.weight") == "language_model.lm_head.weight"
    assert HUB.in_file("model.layers.3.mlp.up_proj.weight") == "language_model.model.layers.3.mlp.up_proj.weight"
    assert MEMORY.in_file("model.norm.weight") == "model.language_model.norm.weight"
    assert MEMORY.in_file("lm_head.weight") == "lm_head.weight"


@pytest.mark.parametrize(
    "key",
    [
        "vision_tower.vision_model.embeddings.position_embedding.weight",
        "model.vision_tower.embeddings.class_embedding",
        "multi_modal_projector.linear_1.weight",
        "model.multi_modal_projector.linear_1.weight",
        "image_newline",
        "model.image_newline",
        "model.mm_projector.0.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ],
)
def test_eyes_and_buffers_are_not_of_the_tower(key: str):
    assert all(layout.canonical(key) is None for layout in LAYOUTS)


def test_a_name_of_no_tower_has_no_place_in_a_file():
    with pytest.raises(ValueError, match="not a canonical tower name"):
        HUB.in_file("vision_tower.weight")


def test_an_unknown_layout_is_told_what_was_looked_for(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"looked for language_model\.model\.embed_tokens.*transformer\.wte"):
        detect_layout(["transformer.wte.weight"], tmp_path)


def test_a_vision_tower_beside_a_plain_tower_makes_another_layout(tmp_path: Path):
    plain = ["model.embed_tokens.weight", "model.norm.weight"]
    assert detect_layout(plain, tmp_path).name == "causal-lm"
    assert detect_layout([*plain, "visual.patch_embed.proj.weight"], tmp_path).name == "qwen-vl"


def test_a_row_in_the_table_is_all_that_a_new_layout_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    new = Layout("text-model", "vlm", (("text_model.", "model."), ("text_head.", "lm_head.")))
    monkeypatch.setattr(towers, "LAYOUTS", (new, *LAYOUTS))
    keys = ["text_model.embed_tokens.weight", "text_head.weight", "eyes.weight"]
    assert detect_layout(keys, tmp_path) is new
    assert [new.canonical(key) for key in keys] == ["model.embed_tokens.weight", "lm_head.weight", None]


def test_a_layout_of_ones_own_is_found_and_must_differ_from_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(towers, "LAYOUTS", list(LAYOUTS))
    new = Layout("text-model", "vlm", (("text_model.", "model."), ("text_head.", "lm_head.")))
    towers.register(new)
    assert detect_layout(["text_model.embed_tokens.weight"], tmp_path) is new
    same_name = Layout("causal-lm", "llm", (("lm.", "model."),))
    same_table = Layout("mine", "llm", (("model.", "model."), ("head.", "lm_head.")))
    for layout in (same_name, same_table):
        with pytest.raises(ValueError, match="'causal-lm' has the same name or the same embedding table"):
            towers.register(layout)


@pytest.mark.parametrize("family", ["mistral", "llama", "qwen2"])
@pytest.mark.parametrize("next_", [True, False], ids=["llava-next", "llava"])
@pytest.mark.parametrize("original_format", [True, False], ids=["hub", "memory"])
def test_towers_of_vision_language_models_are_their_language_models(
    tmp_path: Path, family: str, next_: bool, original_format: bool
):
    folder = save_vlm(tmp_path / "vlm", next_=next_, family=family, original_format=original_format, shards=3)  # type: ignore[arg-type]
    model = open_model("vlm", str(folder), None, tmp_path)
    assert model.layout is (HUB if original_format else MEMORY)
    live = AutoModelForImageTextToText.from_pretrained(folder)
    expected = {f"model.{name}": value for name, value in live.model.language_model.named_parameters()}
    expected["lm_head.weight"] = live.lm_head.weight
    assert model.tower.keys() == expected.keys()
    assert all(torch.equal(model.checkpoint.tensor(key), expected[name]) for name, key in model.tower.items())


@pytest.mark.parametrize("family", ["mistral", "llama", "qwen2"])
def test_the_tower_of_a_causal_model_is_the_whole_of_it(tmp_path: Path, family: str):
    folder = save_llm(tmp_path / "llm", family=family, shards=2)  # type: ignore[arg-type]
    model = open_model("llm", str(folder), None, tmp_path)
    assert model.layout is PLAIN
    expected = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    assert model.tower.keys() == expected.keys()
    assert any(name.endswith("q_proj.bias") for name in model.tower) == (family == "qwen2")


@pytest.mark.parametrize("vision", [True, False])
def test_a_tied_tower_has_no_head(tmp_path: Path, vision: bool):
    save = save_vlm if vision else save_llm
    folder = save(tmp_path / "tied", family="qwen2", tie_word_embeddings=True)
    keys = Checkpoint.open(folder).keys()
    layout = detect_layout(keys, folder)
    assert "lm_head.weight" not in {layout.canonical(key) for key in keys}
    assert "model.embed_tokens.weight" in {layout.canonical(key) for key in keys}
