"""Models that would answer nonsense are refused in a sentence when they are loaded or asked."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.engines import prompts
from evovlm.engines._soundness import positions_of, refuse_unsound
from evovlm.engines.askable import _by_copy
from evovlm.engines.chat import set_template
from evovlm.engines.hf import Engine
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.vocabulary import read_vocabulary
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError, DataError, RecipeError
from evovlm.tasks.protocol import Generation, Item
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

ROWS = 600
ASK = Generation(template="{question}", max_new_tokens=3)


def llm(folder: Path, **config: Any) -> Path:
    return save_llm(folder, rows=ROWS, tokenizer=make_tokenizer(ROWS), **config)


def vlm(folder: Path, **config: Any) -> Path:
    return save_vlm(folder, rows=ROWS + 64, tokenizer=make_tokenizer(ROWS, added=("<image>", "<pad>")), **config)


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def spoil(folder: Path, key: str, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[key].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def of(folder: Path, kind: str) -> Recipe:
    content = {"kind": kind, "sources": [{"name": "a", "model": str(folder)}], "owner": "a", "method": "linear"}
    return Recipe.model_validate(content)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "key", ["multi_modal_projector.linear_2.bias", "vision_tower.vision_model.embeddings.class_embedding"]
)
def test_a_vision_tower_that_is_not_finite_is_neither_copied_nor_asked(tmp_path: Path, key: str, value: float):
    folder = vlm(tmp_path / "vlm")
    spoil(folder, key, value)
    with pytest.raises(RecipeError, match=rf"sources.a.weights: {key} holds NaN or infinite"):
        assemble(of(folder, "vlm"), Path())
    with pytest.raises(CheckpointError, match=rf"{key.rsplit('.', 2)[-2]}.* holds NaN or infinite"):
        Engine.load(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
def test_a_quantised_vision_tower_without_its_scales_is_neither_copied_nor_asked(tmp_path: Path, dtype: torch.dtype):
    folder, key = vlm(tmp_path / "vlm"), "multi_modal_projector.linear_2.weight"
    tensors = load_file(folder / "model.safetensors")
    tensors[key] = tensors[key].to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=rf"sources.a.weights: {key} is quantised"):
        assemble(of(folder, "vlm"), Path())
    with pytest.raises(CheckpointError, match=rf"{key} is quantised .* no quantization_config"):
        Engine.load(folder)


def test_a_buffer_that_is_not_finite_is_refused_and_positions_are_not(tmp_path: Path):
    engine = Engine.load(llm(tmp_path / "llm"))
    decoder = engine.decoder
    decoder.register_buffer("scale", torch.tensor([1.0, torch.inf], dtype=torch.float16))
    with pytest.raises(CheckpointError, match=r"model\.scale holds NaN or infinite values"):
        refuse_unsound(tmp_path / "llm", engine.model, engine.tokenizer, sees=False)
    decoder.register_buffer("scale", torch.tensor([1, 2], dtype=torch.int8))
    refuse_unsound(tmp_path / "llm", engine.model, engine.tokenizer, sees=False)


@pytest.mark.parametrize("key", ["model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_merge_names_the_model_whose_values_are_not_finite(tmp_path: Path, key: str, dtype: torch.dtype):
    folders = {name: llm(tmp_path / name, dtype=dtype) for name in ("a", "b")}
    spoil(folders["b"], key, float("nan"))
    made = of(folders["a"], "llm").model_dump()
    made["sources"] += ({"name": "b", "model": str(folders["b"])},)
    with pytest.raises(CheckpointError, match=rf"{key}: the values of sources.b \(.*b\) are NaN or infinite"):
        build_checkpoint(assemble(Recipe.model_validate(made), Path()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copied_value_that_the_output_cannot_hold_is_refused(tmp_path: Path):
    folder = vlm(tmp_path / "vlm")
    spoil(folder, "image_newline", 1e9)  # beyond float16
    made = of(folder, "vlm").model_copy(update={"dtype": "float16"})
    with pytest.raises(CheckpointError, match="image_newline: the owner's values are not finite in float16"):
        build_checkpoint(assemble(made, Path()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_large_values_whose_sum_overflows_are_finite(tmp_path: Path):
    folder = vlm(tmp_path / "vlm")
    tensors = load_file(folder / "model.safetensors")
    tensors["image_newline"].fill_(3e38)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert assemble(of(folder, "vlm"), Path()).jobs


@pytest.mark.parametrize("row", [-1, ROWS, 10**12])
def test_an_end_token_that_is_no_row_is_refused(tmp_path: Path, row: int):
    folder = llm(tmp_path / "llm")
    edit_json(folder / "config.json", eos_token_id=row)
    edit_json(folder / "generation_config.json", eos_token_id=row)
    with pytest.raises(CheckpointError, match=rf"eos_token_id is {row}, but the embedding table has rows 0 to 599"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.eos_token_id: eos_token_id is {row} in config.json"):
        assemble(of(folder, "llm"), Path())


@pytest.mark.parametrize("rows", [[2, ROWS], [-1], ROWS])
def test_an_end_token_of_generation_that_is_no_row_is_refused(tmp_path: Path, rows: Any):
    folder = llm(tmp_path / "llm")
    edit_json(folder / "generation_config.json", eos_token_id=rows)
    told = re.escape(f"eos_token_id is {rows[0] if rows == [-1] else rows} in generation_config.json")
    with pytest.raises(CheckpointError, match=r"eos_token_id is .*, but the embedding table has rows 0 to 599"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.eos_token_id: {told}"):
        assemble(of(folder, "llm"), Path())


@pytest.mark.parametrize("beams", [1, 2])
def test_a_padding_token_of_minus_one_is_read_as_none(tmp_path: Path, beams: int):
    folder = llm(tmp_path / "llm")
    asked = [Item(id=str(number), question="a" * (3 + number), references=("",), image=None) for number in range(2)]
    way = Generation(template="{question}", max_new_tokens=3, num_beams=beams)
    plain = Engine.load(folder, dtype=torch.float32)
    expected = plain.answer(plain.prepare(asked, way, 2))
    edit_json(folder / "config.json", pad_token_id=-1)
    edit_json(folder / "generation_config.json", pad_token_id=-1)
    engine = Engine.load(folder, dtype=torch.float32)
    assert engine.answer(engine.prepare(asked, way, 2)) == expected
    findings = assemble(of(folder, "llm"), Path()).findings
    assert [finding.level for finding in findings if finding.key == "sources.a.pad_token_id"] == ["warning"] * 2


@pytest.mark.parametrize("row", [-200, 599, 10_000])
def test_an_image_token_that_the_tokenizer_has_elsewhere_is_refused_with_both_ids(tmp_path: Path, row: int):
    folder = vlm(tmp_path / "vlm")
    edit_json(folder / "config.json", image_token_index=row)
    told = "the tokenizer's <image> is 600" if row == 599 else "the embedding table has rows 0 to 663"
    with pytest.raises(CheckpointError, match=rf"image_token_index is {row} in config.json, but {told}"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=rf"sources.a.image_token_index: .* {row} in config.json, but {told}"):
        assemble(of(folder, "vlm"), Path())


def test_ordinary_tokens_beyond_the_table_are_refused(tmp_path: Path):
    folder = save_llm(tmp_path / "llm", rows=ROWS, tokenizer=make_tokenizer(ROWS + 50))
    with pytest.raises(CheckpointError, match=r"the tokenizer has 50 tokens beyond the 600 rows"):
        Engine.load(folder)
    with pytest.raises(RecipeError, match=r"sources.a.tokenizer: the tokenizer has 50 tokens beyond"):
        assemble(of(folder, "llm"), Path())


def test_a_control_token_beyond_the_table_is_told_and_refused_where_a_prompt_has_it(tmp_path: Path):
    folder = save_llm(tmp_path / "llm", rows=ROWS, tokenizer=make_tokenizer(ROWS, added=("[PAD]",)))
    engine = Engine.load(folder, dtype=torch.float32)
    asked = [
        Item(id=name, question=text, references=("",), image=None)
        for name, text in (("fine", "ab"), ("bad", "a[PAD]b"))
    ]
    assert len(engine.answer(engine.prepare(asked[:1], ASK, 1))) == 1
    with pytest.raises(DataError, match=r"item bad: its token '\[PAD\]' has the id 600, but .* 600 rows"):
        engine.prepare(asked, ASK, 2)
    findings = assemble(of(folder, "llm"), Path()).findings
    assert [finding.level for finding in findings if finding.key == "sources.a.tokenizer"] == ["warning"]


@pytest.mark.parametrize("where", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_a_negative_id_in_a_tokenizers_file_is_refused_with_file_and_token(tmp_path: Path, where: str):
    make_tokenizer(ROWS).save_pretrained(tmp_path)
    path = tmp_path / where
    if where == "tokenizer.json":
        content = json.loads(path.read_text(encoding="utf-8"))
        content["added_tokens"].append({"id": -1, "content": "[PAD]", "special": True})
        path.write_text(json.dumps(content), encoding="utf-8")
    elif where == "added_tokens.json":
        path.write_text(json.dumps({"[PAD]": -1}), encoding="utf-8")
    else:
        edit_json(path, added_tokens_decoder={"-1": {"content": "[PAD]"}})
    with pytest.raises(CheckpointError, match=rf"{where}: the token '\[PAD\]' has the id -1"):
        read_vocabulary(tmp_path)


def test_a_prompt_without_tokens_is_refused_by_its_item(tmp_path: Path):
    folder = save_llm(tmp_path / "x", rows=600, tokenizer=make_tokenizer(600))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": r"[\s\S]"}, "content": ""}
    tokenizer["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    engine = Engine.load(folder)
    with pytest.raises(DataError, match="item a: the tokenizer makes no tokens of its prompt"):
        engine.prepare([Item("a", "what", ("x",), None)], Generation("{question}", max_new_tokens=4), 1)


def test_a_prompt_longer_than_the_model_was_made_for_is_named_and_a_much_longer_one_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    engine = Engine.load(llm(tmp_path / "llm", max_position_embeddings=32))
    items = {count: Item(f"of{count}", "a " * count, ("x",), None) for count in (10, 40, 400)}
    sizes = {count: len(engine.prepare([item], ASK, 1).prompts[0].ids) for count, item in items.items() if count < 400}
    assert sizes[10] <= 32 < sizes[40] <= 128
    caplog.clear()
    engine.prepare([items[10], items[40]], ASK, 1)
    assert "1 of 2 prompts have more tokens than the model has positions (32, `max_pos" in caplog.text
    assert f"up to {sizes[40]} in item of40" in caplog.text
    with pytest.raises(DataError, match=r"item of400: its prompt has \d+ tokens, the model 32 positions"):
        engine.prepare(list(items.values()), ASK, 1)


@pytest.mark.parametrize(("make", "chat"), [(llm, False), (llm, True), (vlm, False)])
def test_no_prompt_is_tokenised_after_one_that_is_too_long(
    make: Callable[..., Path], chat: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sixty of 990,000 characters took minutes and a gigabyte, before the first of them was refused."""
    engine = Engine.load(make(tmp_path / "model"))
    engine.model.config.get_text_config().max_position_embeddings = 32
    if chat:
        set_template(engine.processor, "{{ messages[0].content }}{{ 'a' * 5000 }}")
    made: list[int] = []
    tokenise = prompts._ids

    def count(tokenizer: Any, text: str, **rest: Any) -> Any:
        made.append(len(text))
        return tokenise(tokenizer, text, **rest)

    monkeypatch.setattr(prompts, "_ids", count)
    items = [Item(f"of{n}", "a" if chat or n == 0 else "a " * 5000, ("x",), None) for n in range(9)]
    first = "of0" if chat else "of1"
    with pytest.raises(DataError, match=rf"item {first}: its prompt has [\d,]+ tokens, the model 32 positions"):
        engine.prepare(items, replace(ASK, chat=chat), 1)
    assert len(made) == (1 if chat else 2)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({}, None),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_theta": 1e4}}, 4096),
        (
            {
                "max_position_embeddings": 32768,
                "rope_parameters": {"factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
    ],
)
def test_positions_count_those_that_are_scaled(config: dict[str, Any], positions: int | None):
    assert positions_of(SimpleNamespace(**config)) == positions


@pytest.mark.parametrize("self_check", [True, False])
@pytest.mark.parametrize("kind", ["linear_attention", "conv", "chunked_attention", "hybrid"])
def test_a_kind_of_attention_that_its_class_cannot_run_is_the_models_fault(tmp_path: Path, kind: str, self_check: bool):
    folder = llm(tmp_path / "llm")
    layers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    edit_json(folder / "config.json", layer_types=[kind] * layers)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(folder))}(:| is a)"):
        Engine.load(folder, self_check=self_check)


def test_a_family_that_cannot_be_run_here_is_a_finding_and_no_crash(tmp_path: Path):
    folder = llm(tmp_path / "llm")
    layers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    edit_json(folder / "config.json", layer_types=["linear_attention"] * layers)
    asking = _by_copy(folder)
    assert asking.path in ("no", "unknown")
    assert "not known: no cut-down copy" in asking.text
