"""What a configuration may not say, and what it may not ask for beyond what the files hold."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.hf import Engine
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.configuration import read_config, read_generation, refuse_oversized, text_config_of
from evovlm.models.library_faults import explained
from evovlm.models.open_model import open_model
from evovlm.models.pictures import refuse_oversized_pictures
from evovlm.models.vocabulary import read_vocabulary
from evovlm.models.zoo_models import FOLDER
from evovlm.system.errors import CheckpointError
from tests.cli.model_files import copy_model, join_weights, split_weights


def edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(content | values), encoding="utf-8")


@pytest.mark.parametrize("name", ["base", "vlm"])
def test_what_the_zoo_says_is_fine(name: str):
    config = read_config(FOLDER / name)
    assert text_config_of(config)["num_hidden_layers"] >= 1
    refuse_oversized(FOLDER / name, config, Checkpoint.open(FOLDER / name).shapes())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hidden_size": -128}, "`hidden_size` must be a whole number from 1, not -128"),
        ({"hidden_size": 128.0}, "`hidden_size` must be a whole number from 1, not 128.0"),
        ({"num_hidden_layers": None}, "`num_hidden_layers` must be a whole number from 1, not null"),
        ({"vocab_size": "644"}, "`vocab_size` must be a whole number from 1, not 644"),
        ({"num_attention_heads": True}, "`num_attention_heads` must be a whole number from 1, not true"),
        ({"rms_norm_eps": "small"}, "`rms_norm_eps` must be a number from 0, not small"),
        ({"rope_theta": 0}, "`rope_theta` must be a number above 0, not 0"),
        ({"rope_theta": -1e4}, "`rope_theta` must be a number above 0, not -10000.0"),
        ({"rope_theta": "x"}, "`rope_theta` must be a number above 0, not x"),
        ({"rope_theta": float("nan")}, "`rope_theta` is NaN, which is no finite number"),
        ({"rope_scaling": [1]}, "`rope_scaling` must be an object, not a list"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "`rope_scaling.factor` must be a number above 0, not x"),
        ({"rope_parameters": 3}, "`rope_parameters` must be an object, not 3"),
        ({"rope_parameters": {"rope_theta": None}}, "`rope_parameters.rope_theta` must be a number above 0, not null"),
        ({"rope_parameters": {"rope_type": 7}}, "`rope_parameters.rope_type` must be a text, not 7"),
        (
            {"rope_parameters": {"long_factor": []}},
            "`rope_parameters.long_factor` must be a list of numbers, not",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 0}}},
            "`rope_parameters.full_attention.rope_theta` must be a number above 0, not 0",
        ),
        ({"rope_parameters": {"full_attention": []}}, "`rope_parameters.full_attention` must be an object, not empty"),
        ({"quantization_config": []}, "`quantization_config` must be an object, not empty"),
        ({"text_config": None}, "`text_config` must be an object with settings, not null"),
        ({"text_config": {}}, "`text_config` must be an object with settings, not empty"),
        ({"text_config": {"hidden_size": []}}, "`text_config.hidden_size` must be a whole number from 1, not empty"),
        (
            {"vision_config": {"image_size": 10**9}},
            "`vision_config.image_size` must be a number of pixels",
        ),
        ({"vision_config": {"image_size": 4000, "patch_size": 1}}, "`vision_config.patch_size` is 1, which makes more"),
        ({"model_type": []}, "`model_type` must be a text, not empty"),
        ({"architectures": {}}, "`architectures` must be a list of texts, not empty"),
        ({"eos_token_id": "</s>"}, "`eos_token_id` must be a token's id or a list of ids, not </s>"),
        ({"bos_token_id": 1.5}, "`bos_token_id` must be a token's id or a list of ids, not 1.5"),
        ({"tie_word_embeddings": "no"}, "`tie_word_embeddings` must be true or false, not no"),
        ({"transformers_weights": "../x.safetensors"}, "`transformers_weights` names weights in another place"),
        ({"a": {"b": [0, 2**60]}}, "`a.b.1` is 1152921504606846976, more than any program can use"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_with_file_and_key(values: dict[str, Any], told: str, tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "config.json", **values)
    with pytest.raises(CheckpointError) as raised:
        read_config(folder)
    assert f"{folder}/config.json: {told}" in str(raised.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_hidden_layers": 2_000_000_000}, "`num_hidden_layers` is 2000000000, but the files hold 8 layers"),
        ({"hidden_size": 1_000_000}, "`hidden_size` is 1000000, but no tensor in the files is wider than 642"),
        ({"num_local_experts": 10**9}, "`num_local_experts` is 1000000000, but no tensor"),
        ({"vision_config": {"num_hidden_layers": 9}}, "`vision_config.num_hidden_layers` is 9, but the files hold 8"),
    ],
)
def test_more_than_the_files_hold_is_refused_before_a_model_is_made(values: dict[str, Any], told: str, tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "config.json", **values)
    for load in (lambda: open_model("bad", "bad", None, tmp_path), lambda: Engine.load(folder)):
        with pytest.raises(CheckpointError, match=told):
            load()


def test_end_tokens_are_rows_in_every_file_that_names_them(tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "generation_config.json", eos_token_id="</s>")
    with pytest.raises(CheckpointError, match=r"generation_config.json: `eos_token_id` must be a token's id"):
        read_generation(folder)
    edit(folder / "generation_config.json", eos_token_id=[2, -1])
    with pytest.raises(CheckpointError, match=r"eos_token_id is \[2, -1\], but the embedding table has rows 0 to"):
        Engine.load(folder)


def test_quantised_weights_and_other_peoples_layouts_are_named_before_transformers_is_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(CheckpointError, match=r"quantised weights \(GPTQ, 4 bits\) cannot be merged or asked"):
        Engine.load(folder)
    edit(folder / "config.json", quantization_config=None, model_type="llava_mistral")
    with pytest.raises(CheckpointError, match="of the kind 'llava_mistral', which this transformers does not know"):
        Engine.load(folder)
    header, data = split_weights(folder / "model.safetensors")
    header["model.mm_projector.0.bias"] = header.pop("model.norm.weight")
    join_weights(folder / "model.safetensors", json.dumps(header).encode(), data)
    with pytest.raises(CheckpointError, match="bad is in LLaVA's authors' own layout"):
        Engine.load(folder)
    assert "".join(capfd.readouterr()) == ""


def test_a_single_file_beside_an_index_is_refused(tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "model.safetensors.index.json", weight_map={"a": "model-00001-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"has model.safetensors beside model.safetensors.index.json"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"image_processor": {"size": {"height": 10**9}}},
            "`image_processor.size.height` must be a whole number",
        ),
        ({"image_processor": {"crop_size": 10**9}}, "`image_processor.crop_size` must be"),
        (
            {"image_processor": {"image_grid_pinpoints": [[336, 10**6]]}},
            "`image_processor.image_grid_pinpoints.0` must",
        ),
        ({"num_additional_image_tokens": 10**9}, "`num_additional_image_tokens` must be a whole number from 0 to 64"),
        ({"patch_size": 0}, "`patch_size` must be a whole number from 1 to 4,096, not 0"),
    ],
)
def test_a_processor_that_would_make_huge_pictures_is_refused(values: dict[str, Any], told: str, tmp_path: Path):
    folder = copy_model("vlm", tmp_path / "bad")
    refuse_oversized_pictures(folder)
    edit(folder / "processor_config.json", **values)
    with pytest.raises(CheckpointError, match=told):
        refuse_oversized_pictures(folder)


def test_a_tokenizer_whose_steps_multiply_a_text_is_refused(tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    edit(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [double] * 9})
    assert read_vocabulary(folder)
    edit(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [double] * 40})
    with pytest.raises(CheckpointError, match="`normalizer` can make a text more than 1,000 times as long"):
        read_vocabulary(folder)


def test_rusts_panics_and_pythons_exceptions_become_a_sentence_and_interrupts_do_not(tmp_path: Path):
    class PanicException(BaseException):
        """As every extension in Rust has one of its own."""

    for error, told in (
        (PanicException("index out of bounds\n  at x.rs"), r"it \(PanicException: index out of bounds\); complete"),
        (ZeroDivisionError(), r"transformers cannot load it \(ZeroDivisionError\)"),
        (RuntimeError("std::bad_alloc"), "not enough memory"),
    ):
        with pytest.raises(ValueError, match=told), explained(tmp_path):
            raise error
    for error in (KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        with pytest.raises(type(error)), explained(tmp_path):
            raise error


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_labels": 10**9}, "`num_labels` is 1000000000; transformers lists as many names, and at most 100,000"),
        ({"hidden_act": "swoosh"}, "`hidden_act` is 'swoosh', which transformers does not have"),
        (
            {"rope_parameters": {"rope_type": "nope"}},
            "`rope_parameters.rope_type` is 'nope', which transformers",
        ),
        ({"use_cache": "x"}, "Validation error for field 'use_cache': .*bool"),
    ],
)
def test_values_that_transformers_fails_on_are_named_by_key(
    tmp_path: Path, values: dict[str, Any], told: str, capfd: pytest.CaptureFixture[str]
):
    folder = copy_model("ja", tmp_path / "bad")
    edit(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=told):
        Engine.load(folder)
    assert "[transformers]" not in capfd.readouterr().err, "the sentence alone is for the user"


def test_what_transformers_logs_goes_to_our_log_for_debugging(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("DEBUG", logger="evovlm.models.library_faults"), explained(tmp_path):
        logging.getLogger("transformers.modeling_utils").warning("a remark")
    assert capfd.readouterr().err == ""
    assert "transformers: a remark" in caplog.messages
