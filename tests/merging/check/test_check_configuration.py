"""What `check_recipe` says of models whose configurations differ."""

import json
from pathlib import Path

import pytest

from tests.hub_layouts import save_llm
from tests.merging.check.checking import SMALL, Save, check, edit_config, edit_tensors, errors, of, recipe


def test_shapes_and_sizes_that_differ_are_errors(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("wide", hidden_size=96)
    findings = check(recipe("wide"), tmp_path)
    assert "96 in wide, 64 in base" in of(findings, "sources.wide.hidden_size", "error")
    assert "differ in shape from base's, first" in of(findings, "sources.wide.shapes", "error")


def test_heads_of_another_count_are_errors_though_all_shapes_agree(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("heads", num_attention_heads=8, num_key_value_heads=4, head_dim=8)
    keys = errors(check(recipe("heads"), tmp_path))
    assert keys == [f"sources.heads.{name}" for name in ("num_attention_heads", "num_key_value_heads", "head_dim")]


def test_another_architecture_is_told_by_its_biases_and_its_name(zoo: Save, tmp_path: Path):
    zoo("base", family="qwen2")
    zoo("plain", family="llama")
    findings = check(recipe("plain"), tmp_path)
    assert "lacks 6 tensors" in of(findings, "sources.plain.tower", "error")
    assert "llama in plain, qwen2 in base" in of(findings, "sources.plain.model_type", "error")
    zoo("mistral")
    other = check(recipe("mistral", base={"model": "plain"}), tmp_path)
    assert errors(other) == []
    assert "mistral in mistral, llama in base" in of(other, "sources.mistral.model_type", "note")


def test_values_that_bend_the_function_are_warnings(zoo: Save, tmp_path: Path):
    zoo("base")
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 8192}
    zoo("bent", rms_norm_eps=1e-6, sliding_window=None, rope_parameters=yarn)
    findings = check(recipe("bent"), tmp_path)
    assert errors(findings) == []
    for name in ("rms_norm_eps", "sliding_window", "rope_type", "rope_scaling"):
        assert "the owner's value is used" in of(findings, f"sources.bent.{name}", "warning")


def test_a_configuration_that_its_class_refuses_is_compared_as_it_stands(zoo: Save, tmp_path: Path):
    zoo("base")
    path = zoo("odd") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu", "layer_types": ["odd"]}))
    assert "relu in odd" in of(check(recipe("odd"), tmp_path), "sources.odd.hidden_act", "error")


def test_rope_theta_is_read_in_the_old_place_and_defaults_are_known(zoo: Save, tmp_path: Path):
    zoo("base")
    old = zoo("old")
    config = json.loads((old / "config.json").read_text())
    del config["rope_parameters"], config["head_dim"]
    (old / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5}))
    findings = check(recipe("old"), tmp_path)
    assert "500000.0 in old, 10000.0 in base" in of(findings, "sources.old.rope_theta", "warning")
    assert errors(findings) == []
    (old / "config.json").write_text(json.dumps(config))  # Mistral's default is 1e4
    assert not [finding for finding in check(recipe("old"), tmp_path) if "rope" in finding.key]


def test_tied_heads_are_told_where_models_disagree(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("tied", tie_word_embeddings=True)
    text = of(check(recipe("tied"), tmp_path), "sources.tied.tie_word_embeddings", "warning")
    assert "its embedding table is used for both" in text
    zoo("tied-base", tie_word_embeddings=True)
    zoo("free")
    findings = check(recipe("free", base={"model": "tied-base"}), tmp_path)
    assert "its lm_head is dropped" in of(findings, "sources.free.tie_word_embeddings", "warning")
    assert not [f for f in check(recipe("tied", base={"model": "tied-base"}), tmp_path) if "tie_word" in f.key]


def test_a_file_that_contradicts_its_configuration_on_tying_is_told(zoo: Save, tmp_path: Path):
    edit_config(zoo("base"), tie_word_embeddings=True)
    edit_tensors(zoo("headless"), lambda tensors: tensors.pop("lm_head.weight"))
    findings = check(recipe("headless"), tmp_path)
    assert "an lm_head of other values; loaders differ" in of(findings, "base.tie_word_embeddings", "error")
    assert "the file has no lm_head" in of(findings, "sources.headless.tie_word_embeddings", "warning")
    findings = check(recipe("base", base={"model": "headless"}), tmp_path)
    assert "the file has no lm_head" in of(findings, "base.tie_word_embeddings", "error")


def test_special_tokens_are_compared_by_their_text(paper: Path, zoo: Save, tmp_path: Path):
    zoo("base")
    edit_config(zoo("ends"), eos_token_id=300, pad_token_id=0)
    findings = check(recipe("ends"), tmp_path)
    assert "</s> in base, which is used" in of(findings, "sources.ends.eos_token_id", "warning")
    assert "<unk> in ends, none in base" in of(findings, "sources.ends.pad_token_id", "note")
    assert not [finding for finding in check(recipe("ja"), paper) if "token_id" in finding.key]


def test_another_activation_is_an_error_though_all_shapes_agree(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("other", hidden_act="gelu")
    text = of(check(recipe("other"), tmp_path), "sources.other.hidden_act", "error")
    assert text.startswith("gelu in other, silu in base: its weights were trained for another function")


def test_two_names_of_one_activation_are_the_same(zoo: Save, tmp_path: Path):
    edit_config(zoo("base"), hidden_act="swish")
    zoo("other")
    assert not [finding for finding in check(recipe("other"), tmp_path) if "hidden_act" in finding.key]


@pytest.mark.parametrize(("kind", "level"), [("gemma", "error"), ("smollm3", "error"), ("unheard-of", "warning")])
def test_another_architecture_of_the_same_shapes_is_refused(zoo: Save, tmp_path: Path, kind: str, level: str):
    zoo("base", family="llama")
    edit_config(zoo("other", family="llama"), model_type=kind, hidden_activation="silu")
    assert f"{kind} in other, llama in base" in of(check(recipe("other"), tmp_path), "sources.other.model_type", level)


def test_a_setting_that_only_its_class_knows_is_told(tmp_path: Path):
    for name, scalar, softcap in (("base", 8, 50.0), ("scalar", 16, 50.0), ("softcap", 8, None)):
        folder = save_llm(tmp_path / name, family="llama", rows=1000, tokenizer=SMALL)
        gemma = {"model_type": "gemma2", "query_pre_attn_scalar": scalar, "attn_logit_softcapping": softcap}
        edit_config(folder, hidden_activation="silu", **gemma)
    assert "16 in scalar, 8 in base" in of(
        check(recipe("scalar"), tmp_path), "sources.scalar.query_pre_attn_scalar", "error"
    )
    assert "None in softcap, 50.0 in base" in of(
        check(recipe("softcap"), tmp_path), "sources.softcap.attn_logit_softcapping", "error"
    )


def test_settings_that_no_list_names_are_compared_as_their_class_declares_them(zoo: Save, tmp_path: Path):
    zoo("base", family="llama")
    for name, scale in (("base", 1.0), ("other", 0.5)):
        if name == "other":
            zoo(name, family="llama")
        edit_config(tmp_path / name, model_type="cohere", layer_norm_eps=scale * 1e-5, logit_scale=0.25)
    text = of(check(recipe("other"), tmp_path), "sources.other.layer_norm_eps", "warning")
    assert "5e-06 in other, 1e-05 in base; the owner's value is used" in text


def test_settings_of_single_layers_are_not_moved_with_a_stack(tmp_path: Path):
    import transformers

    config = transformers.SmolLM3Config(
        vocab_size=1000, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, no_rope_layers=[1, 1, 1, 0], pad_token_id=None, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.SmolLM3ForCausalLM(config).save_pretrained(tmp_path / "a")
    SMALL.save_pretrained(tmp_path / "a")
    stack = {"base": None, "method": "passthrough", "slices": [{"source": "a", "layers": [2, 4]}]}
    assert "differs between the layers" in of(
        check(recipe("a", **stack), tmp_path), "sources.a.no_rope_layers", "error"
    )
