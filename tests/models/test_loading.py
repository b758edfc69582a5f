"""What is missing from a checkpoint is found before anything is computed with it, and by name."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evovlm.cli import app
from evovlm.engines.hf import Engine
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.loading import LoadingReport, report_from_headers
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError, RecipeError
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

ROWS = 600
GATE = "model.layers.1.mlp.gate_proj.weight"


def llm(folder: Path, **config: Any) -> Path:
    return save_llm(folder, rows=ROWS, tokenizer=make_tokenizer(ROWS), **config)


def vlm(folder: Path, **config: Any) -> Path:
    return save_vlm(folder, rows=ROWS + 64, tokenizer=make_tokenizer(ROWS, added=("<image>", "<pad>")), **config)


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, *, text: dict[str, Any] | None = None, **values: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | values
    if text is not None:
        config["text_config"] |= text
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def of(folder: Path, kind: str = "llm") -> Recipe:
    content = {"kind": kind, "sources": [{"name": "a", "model": str(folder)}], "owner": "a", "method": "linear"}
    return Recipe.model_validate(content | {"dtype": "float32"})


def test_a_language_model_without_some_weights_is_refused_everywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = edit(llm(tmp_path / "llm"), lambda tensors: tensors.pop(GATE))
    with pytest.raises(CheckpointError, match=rf"llm lacks 1 weight that its configuration asks for: {GATE}"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.weights: lacks 1 weight .*{GATE}"):
        assemble(of(folder), Path())
    assert "LOAD REPORT" not in "".join(capfd.readouterr()), "no table of transformers"
    said = CliRunner().invoke(app, ["evaluate", str(folder), "--data", "zoo-maths:test", "--items", "2"])
    assert isinstance(said.exception, CheckpointError)


@pytest.mark.parametrize(
    "lost", ["multi_modal_projector.linear_1.weight", "vision_tower.vision_model.embeddings.class_embedding"]
)
def test_a_projector_or_vision_tower_without_some_weights_is_refused(tmp_path: Path, lost: str):
    folder = edit(vlm(tmp_path / "vlm"), lambda tensors: tensors.pop(lost))
    name = lost.rsplit(".", 2)[1 if lost.endswith("weight") else 2]
    with pytest.raises(CheckpointError, match=rf"vlm lacks 1 weight .*{name}"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.weights: lacks 1 weight .*{name}"):
        assemble(of(folder, "vlm"), Path())


def test_biases_that_every_layer_lacks_are_missed(tmp_path: Path):
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("q_proj.bias")]:
            del tensors[name]

    folder = edit(llm(tmp_path / "llm", family="qwen2"), drop)
    with pytest.raises(RecipeError, match=r"lacks 2 weights .*layers.0.self_attn.q_proj.bias"):
        assemble(of(folder), Path())


def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path: Path):
    folder = edit(llm(tmp_path / "llm"), lambda tensors: tensors.update({GATE: tensors[GATE][:100].clone()}))
    with pytest.raises(CheckpointError, match=rf"another shape .*{GATE} \(\[100, 64\] in the file, \[112, 64\]"):
        Engine.load(folder)


def test_tied_heads_and_old_buffers_are_not_missing_or_left_over(tmp_path: Path):
    tables = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    folder = edit(llm(tmp_path / "llm", tie_word_embeddings=True), lambda tensors: tensors.update(tables))
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    report = report_from_headers(folder, Checkpoint.open(folder))
    assert report is not None
    assert report == LoadingReport((), ())
    Engine.load(folder)


def test_of_an_unknown_architecture_nothing_is_said(tmp_path: Path):
    folder = edit_config(llm(tmp_path / "llm"), model_type="nothing")
    assert report_from_headers(folder, Checkpoint.open(folder)) is None


@pytest.mark.parametrize("next_", [True, False])
@pytest.mark.parametrize(("top", "text"), [(None, True), (False, True), (True, False), (True, None)])
def test_a_head_tied_in_one_place_of_the_configuration_is_tied(
    tmp_path: Path, top: bool | None, text: bool | None, next_: bool
):
    folder = edit(vlm(tmp_path / "vlm", next_=next_), lambda tensors: tensors.pop("language_model.lm_head.weight"))
    config = edit_config(folder, tie_word_embeddings=top, text={"tie_word_embeddings": text}) / "config.json"
    read = json.loads(config.read_text(encoding="utf-8"))
    for section, said in ((read, top), (read["text_config"], text)):
        if said is None:
            del section["tie_word_embeddings"]
    config.write_text(json.dumps(read), encoding="utf-8")
    engine = Engine.load(folder)
    assert engine.model.lm_head.weight is engine.model.get_input_embeddings().weight
    build_checkpoint(assemble(of(folder, "vlm"), Path()), tmp_path / "out")
    merged = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (merged["tie_word_embeddings"], merged["text_config"]["tie_word_embeddings"]) == (True, True)
    loaded = type(engine.model).from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight


def test_a_head_that_is_tied_nowhere_and_missing_is_refused(tmp_path: Path):
    folder = edit(vlm(tmp_path / "vlm"), lambda tensors: tensors.pop("language_model.lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"lacks 1 weight .*lm_head.weight"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=r"a.tie_word_embeddings: the file has no lm_head"):
        assemble(of(folder, "vlm"), Path())


def test_a_tied_heads_copy_in_the_file_is_not_merged(tmp_path: Path):
    folder = llm(tmp_path / "llm", tie_word_embeddings=True)
    table = "model.embed_tokens.weight"
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[table].clone()}))
    assembly = assemble(of(folder), Path())
    assert "lm_head.weight" not in {job.name for job in assembly.jobs}
    build_checkpoint(assembly, tmp_path / "out")
    assert "lm_head.weight" not in Checkpoint.open(tmp_path / "out").keys()


LEFT_OVER = [
    ("llm", "model.layers.2.mlp.gate_proj.weight", "take weights and config.json from the same revision"),
    ("llm", "model.layers.1.self_attn.q_norm.weight", "take weights and config.json"),
    ("llm", "model.layers.0.self_attn.q_proj.bias", "take weights and config.json"),
    ("llm", "model.layers.1.self_attn.q_proj.lora_A.default.weight", "merge the adapter into its model"),
    ("llm", "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight", "merge the adapter"),
    ("llm", "model.layers.0.mlp.up_proj.weight_scale_2", "take weights and config.json"),
    ("llm", "model.layers.0.mlp.up_proj.input_scale", "the unquantised checkpoint"),
    ("llm", "lm_head.bias", "take weights and config.json"),
    ("llm", "visual.blocks.0.norm1.weight", "take weights and config.json"),
    ("vlm", "multi_modal_projector.linear_3.weight", "take weights and config.json"),
    ("vlm", "vision_tower.vision_model.encoder.layers.9.layer_norm1.weight", "take weights and config.json"),
    ("vlm", "language_model.model.layers.2.input_layernorm.weight", "take weights and config.json"),
]


@pytest.mark.parametrize(("kind", "key", "way_out"), LEFT_OVER, ids=[key for _, key, _ in LEFT_OVER])
def test_weights_that_the_configuration_has_no_place_for_are_refused(tmp_path: Path, kind: str, key: str, way_out: str):
    make = llm if kind == "llm" else vlm
    folder = edit(make(tmp_path / "model"), lambda tensors: tensors.update({key: torch.ones(2)}))
    name = re.escape(".".join(key.split(".")[-3:]))
    with pytest.raises(CheckpointError, match=rf"holds 1 weight that .* no place for: .*{name}; .*{way_out}"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.weights: holds 1 weight .*{name}; .*{way_out}"):
        assemble(of(folder, kind), Path())


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("llm", "model.layers.1.self_attn.rotary_emb.inv_freq"),
        ("llm", "model.layers.1.attn.masked_bias"),
        ("vlm", "vision_tower.vision_model.embeddings.position_ids"),
        ("vlm", "vision_tower.vision_model.head.probe"),
    ],
)
def test_what_no_answer_depends_on_may_lie_in_the_file(
    tmp_path: Path, kind: str, key: str, caplog: pytest.LogCaptureFixture
):
    make = llm if kind == "llm" else vlm
    folder = edit(make(tmp_path / "model"), lambda tensors: tensors.update({key: torch.ones(2)}))
    Engine.load(folder)
    assemble(of(folder, kind), Path())
    assert not caplog.text


def test_a_head_for_training_is_not_used_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = edit(llm(tmp_path / "llm"), lambda tensors: tensors.update({"v_head.summary.weight": torch.ones(2)}))
    Engine.load(folder)
    assert "not used, since its architecture has no such part: v_head.summary.weight" in caplog.text
    assert "LOAD REPORT" not in caplog.text


@pytest.mark.parametrize("kind", ["llm", "vlm"])
def test_a_head_that_is_tied_and_stored_with_other_values_is_refused(tmp_path: Path, kind: str):
    folder = llm(tmp_path / "model") if kind == "llm" else vlm(tmp_path / "model")
    Engine.load(folder)
    edit_config(folder, tie_word_embeddings=True)
    with pytest.raises(CheckpointError, match=r"config.json ties the head .* an lm_head of other values"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=r"sources.a.tie_word_embeddings: .* an lm_head of other values"):
        assemble(of(folder, kind), Path())


def test_a_repositorys_code_is_not_run_or_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = edit_config(llm(tmp_path / "llm"), model_type="nothing", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    assert report_from_headers(folder, Checkpoint.open(folder)) is None
    with pytest.raises(CheckpointError, match="needs remote code"):
        Engine.load(folder)


def test_an_adapter_beside_whole_weights_is_told_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    plain = Engine.load(llm(tmp_path / "plain")).model.state_dict()
    folder = llm(tmp_path / "with")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/other"}')
    (folder / "adapter_model.safetensors").write_bytes(b"never read")
    # As with peft installed, where transformers would load the adapter; without it, doing so raises.
    for module in ("models.auto.auto_factory", "integrations.peft"):
        monkeypatch.setattr(f"transformers.{module}.is_peft_available", lambda: True)
    engine = Engine.load(folder)
    assert engine.model.name_or_path == str(folder)
    assert all(torch.equal(engine.model.state_dict()[key], value) for key, value in plain.items())
    told = "adapter_config.json and adapter_model.safetensors beside whole weights: the adapter is not used"
    assert any(told in message for message in caplog.messages)
    findings = [finding for finding in assemble(of(folder), Path()).findings if finding.key == "sources.a.adapter"]
    assert [(finding.level, told in finding.text) for finding in findings] == [("warning", True)]
