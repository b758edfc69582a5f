"""What `check_recipe` says of recipes, and of models whose files differ."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from evovlm.merging.check import Finding
from evovlm.methods import METHODS
from evovlm.models.open_model import open_model
from tests.merging.check.checking import Save, check, edit_config, edit_tensors, errors, of, recipe


def test_the_papers_vision_language_merge_has_no_errors_and_its_differences_are_told(paper: Path):
    findings = check(recipe("ja", "vlm", kind="vlm", owner="vlm"), paper)
    assert errors(findings) == []
    text = of(findings, "sources.ja.rope_theta", "warning")
    assert "10000.0 in ja, 1000000.0 in vlm; the owner's value is used" in text
    assert "4096 in ja, None in vlm" in of(findings, "sources.ja.sliding_window", "warning")
    assert "10000.0 in base" in of(findings, "base.rope_theta", "warning")
    assert "lacks 2 of vlm's tokens" in of(findings, "sources.ja.vocab", "note")
    assert "32000 of 32064 vocabulary rows" in of(findings, "sources.ja.vocab", "note")


def test_the_papers_language_merge_has_no_errors_and_the_extra_token_is_named(paper: Path):
    findings = check(recipe("ja", "math"), paper)
    assert errors(findings) == []
    text = of(findings, "sources.math.vocab", "note")
    assert "1 of its tokens (row 32000) are dropped because base lacks them: '[PAD]'" in text


@pytest.mark.slow
def test_an_extended_vocabulary_is_refused_unless_the_recipe_says_how(paper: Path):
    assert errors(check(recipe("extended"), paper)) == ["sources.extended.vocab"]
    found = {policy: check(recipe("extended", vocab=policy), paper) for policy in ("shared", "tower", "position")}
    assert [errors(findings) for findings in found.values()] == [[], [], []]
    shared = of(found["shared"], "sources.extended.vocab", "warning")
    assert "28000 of its tokens (rows 32000 to 59999) are dropped" in shared


def test_errors_stand_before_warnings_and_these_before_notes(paper: Path):
    levels = [finding.level for finding in check(recipe("extended", "vlm", kind="vlm", owner="vlm"), paper)]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert set(levels) == {"error", "warning", "note"}


def test_missing_layers_are_counted_and_named(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("flat", num_hidden_layers=1)
    text = of(check(recipe("flat"), tmp_path), "sources.flat.tower", "error")
    assert text.startswith("lacks 9 tensors of base's language tower: 'model.layers.1.")
    assert "and 5 more" in text
    zoo("deep", num_hidden_layers=3)
    findings = check(recipe("deep"), tmp_path)
    assert "has 9 tensors that base's language tower lacks" in of(findings, "sources.deep.tower", "warning")
    assert "3 in deep, 2 in base" in of(findings, "sources.deep.num_hidden_layers", "error")


def test_dtypes_that_change_are_told_and_quantised_weights_refused(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("wide", dtype=torch.float32)
    findings = check(recipe("wide"), tmp_path)
    assert "stored as float32" in of(findings, "sources.wide.dtype", "note")
    assert not [finding for finding in findings if finding.key == "base.dtype"]

    def quantise(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)

    edit_tensors(zoo("int8"), quantise)
    edit_config(zoo("gptq"), quantization_config={"bits": 4})
    assert "quantised weights (int8)" in of(check(recipe("int8"), tmp_path), "sources.int8.dtype", "error")
    assert "see quantization_config" in of(check(recipe("gptq"), tmp_path), "sources.gptq.dtype", "error")


def test_a_folder_without_a_tokenizer_is_matched_by_position_with_a_warning(zoo: Save, tmp_path: Path):
    zoo("base")
    bare = zoo("bare")
    (bare / "tokenizer.json").unlink()
    (bare / "tokenizer_config.json").unlink()
    assert "1000 of 1000 rows are matched by position" in of(
        check(recipe("bare"), tmp_path), "sources.bare.vocab", "warning"
    )
    other = zoo("other", rows=1001)
    (other / "tokenizer.json").unlink()
    assert errors(check(recipe("other"), tmp_path)) == ["sources.other.vocab"]


def test_the_owner_must_have_eyes_exactly_when_the_recipe_says_so(paper: Path):
    assert "ja has no vision tower" in of(check(recipe("ja", "vlm", kind="vlm", owner="ja"), paper), "owner", "error")
    assert "set `kind: vlm`" in of(check(recipe("ja", "vlm", owner="vlm"), paper), "kind", "error")
    eyes = of(check(recipe("ja", "vlm"), paper), "sources.vlm", "note")
    assert "only its language tower is merged" in eyes


@pytest.mark.slow
def test_methods_are_checked_against_base_and_sources(paper: Path):
    unknown = of(check(recipe("ja", method="ties_dare"), paper), "method", "error")
    assert all(name in unknown for name in METHODS)
    assert "set `base`" in of(check(recipe("ja", "math", base=None), paper), "base", "error")
    assert "slerp takes exactly two sources, not 3" in of(
        check(recipe("ja", "math", "permuted", method="slerp", base=None), paper), "sources", "error"
    )
    assert errors(check(recipe("ja", "math", method="slerp", base=None), paper)) == []
    assert "model_stock takes at least two sources, not 1" in of(
        check(recipe("ja", method="model_stock"), paper), "sources", "error"
    )


@pytest.mark.slow
def test_slices_must_lie_within_their_source_and_need_passthrough(paper: Path):
    inside = [{"source": "ja", "layers": [0, 2]}, {"source": "math", "layers": [1, 2]}]
    good = recipe("ja", "math", base=None, method="passthrough", slices=inside)
    assert errors(check(good, paper)) == []
    beyond = [inside[0], {"source": "math", "layers": [1, 3]}]
    bad = recipe("ja", "math", base=None, method="passthrough", slices=beyond)
    assert "layers [1, 3] of math, which has 2" in of(check(bad, paper), "slices.1", "error")
    assert "only `method: passthrough`" in of(check(recipe("ja", "math", slices=inside), paper), "slices", "error")
    alone = recipe("ja", "math", base=None, method="passthrough")
    assert "no slices" in of(check(alone, paper), "slices", "error")


def test_slices_of_models_of_unequal_depth_are_no_error(zoo: Save, tmp_path: Path):
    zoo("a")
    zoo("b", num_hidden_layers=4)
    slices = [{"source": "a", "layers": [0, 2]}, {"source": "b", "layers": [2, 4]}]
    assert errors(check(recipe("a", "b", base=None, method="passthrough", slices=slices), tmp_path)) == []


def test_a_misspelt_layer_group_is_an_error_that_lists_the_groups(paper: Path):
    parameters = {"ja": {"weight": {"layers 0-0": 0.3, "layres 1-1": 0.5}}}
    text = of(check(recipe("ja", groups=2, parameters=parameters), paper), "parameters.ja.weight", "error")
    assert "['layres 1-1']" in text
    assert "['embeddings', 'layers 0-0', 'layers 1-1', 'head']" in text
    assert "3 blocks for 2 layers" in of(check(recipe("ja", groups=3), paper), "groups", "error")
    holes = check(recipe("ja", groups={"attention": ("*.self_attn.*",)}), paper)
    assert "no group matches lm_head.weight" in of(holes, "groups", "error")


def test_custom_code_is_noted(zoo: Save, tmp_path: Path):
    zoo("base")
    edit_config(zoo("remote"), auto_map={"AutoConfig": "configuration.Config"})
    assert "never run" in of(check(recipe("remote"), tmp_path), "sources.remote.auto_map", "warning")


def test_a_revision_of_a_plain_folder_is_noted(paper: Path):
    pinned = recipe(base={"model": "base", "revision": "a" * 40}, sources=[{"name": "ja", "model": "ja"}])
    assert "cannot be verified" in of(check(pinned, paper), "base.revision", "note")


def test_the_disk_that_the_merge_takes_is_that_of_the_owners_weights(paper: Path, tmp_path: Path):
    text = of(check(recipe("ja"), paper, tmp_path / "not" / "yet" / "out"), "disk", "note")
    stored = open_model("base", "base", None, paper).checkpoint.nbytes  # bfloat16, as the recipe
    assert f"the checkpoint needs {stored / 1e6:.1f} MB" in text
    double = of(check(recipe("ja", dtype="float32"), paper, tmp_path / "out"), "disk", "note")
    assert f"the checkpoint needs {2 * stored / 1e6:.1f} MB" in double
    twice = [{"source": "ja", "layers": [0, 2]}, {"source": "ja", "layers": [0, 2]}]
    stacked = check(recipe("ja", base=None, method="passthrough", slices=twice), paper, tmp_path / "out")
    ja = open_model("ja", "ja", None, paper)
    layers = sum(ja.checkpoint.tensor(key).nbytes for name, key in ja.tower.items() if name.startswith("model.layers."))
    assert f"the checkpoint needs {(stored + layers) / 1e6:.1f} MB" in of(stacked, "disk", "note")


def test_a_disk_without_room_is_an_error(paper: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "1.0 kB are free" in of(check(recipe("ja"), paper, tmp_path / "out"), "disk", "error")


def test_memory_is_the_largest_tensor_in_float32_times_sources_and_three(paper: Path, monkeypatch: pytest.MonkeyPatch):
    expected = 32000 * 64 * 4 * (2 + 3)
    findings = check(recipe("ja", "math"), paper)
    assert f"at most {expected / 1e6:.1f} MB" in of(findings, "memory", "note")
    scarce = psutil.virtual_memory()._replace(available=expected - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: scarce)
    assert "are available" in of(check(recipe("ja", "math"), paper), "memory", "warning")


@pytest.mark.parametrize("method", ["dare_ties", "linear"])
def test_a_factor_per_element_is_refused_where_elements_have_no_probability(zoo: Save, tmp_path: Path, method: str):
    zoo("base")
    zoo("a")
    refused = check(recipe("a", method=method, options={"rescale": "per_element"}), tmp_path)
    assert "`per_element` is for della and della_linear only" in of(refused, "options.rescale", "error")
    taken = check(recipe("a", method="della", options={"rescale": "per_element"}), tmp_path)
    assert not [finding for finding in taken if finding.key == "options.rescale"]


def test_weights_of_a_method_without_weights_are_told(zoo: Save, tmp_path: Path):
    for name in ("base", "a", "b"):
        zoo(name)
    given = {"parameters": {"a": {"weight": 0.5}}, "search": {"density": None}}
    findings = check(recipe("a", "b", method="model_stock", **given), tmp_path)
    for key in ("parameters.a.weight", "search.weight"):
        assert "model_stock uses no weights" in of(findings, key, "warning")
    plain = check(recipe("a", "b", method="ties", **given), tmp_path)
    assert not [finding for finding in plain if "uses no weights" in finding.text]


def test_dellas_epsilon_is_told_where_a_density_does_not_allow_it(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("a")

    def told(density: Any, epsilon: float = 0.2, **keys: Any) -> list[Finding]:
        parameters = {"a": {"weight": 1.0, "density": density}}
        made = recipe("a", method="della", options={"epsilon": epsilon}, parameters=parameters, **keys)
        return [finding for finding in check(made, tmp_path) if finding.key == "options.epsilon"]

    assert told(0.5) == told(1.0) == told(0.0) == told(0.8) == []
    (low,) = told(0.1)
    assert (low.level, "0.2 is too large for a's density 0.1" in low.text) == ("warning", True)
    (both,) = told({"embeddings": 0.9, "layers 0-1": 0.15, "head": 0.5}, groups=1)
    assert "density 0.15, 0.9" in both.text
    (searched,) = told(0.5, search={"density": [0.1, 1.0]})
    assert (searched.level, "below 0.2 or above 0.8" in searched.text) == ("note", True)


def test_llavas_authors_own_layout_is_called_so(zoo: Save, tmp_path: Path):
    zoo("base")
    edit_tensors(zoo("vlm"), lambda tensors: tensors.update({"model.mm_projector.0.weight": torch.ones(2, 2)}))
    text = of(check(recipe("vlm", kind="vlm", owner="vlm"), tmp_path), "owner", "error")
    assert "LLaVA's authors' own layout" in text
    assert "llava-hf/" in text


Tensors = dict[str, torch.Tensor]
SECOND = "model.layers.1."


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda t: t.update({f"{SECOND}self_attn.q_proj.bias": torch.ones(64)}), "has 'self_attn.q_proj.bias', unlike"),
        (lambda t: t.pop(f"{SECOND}mlp.up_proj.weight"), "lacks 'mlp.up_proj.weight', unlike layer 0 of"),
        (lambda t: t.update({f"{SECOND}mlp.up_proj.weight": torch.ones(8, 64)}), r"mlp.up_proj.weight of layer 1 is"),
    ],
)
def test_every_layer_that_a_stack_or_route_uses_is_compared(
    zoo: Save, tmp_path: Path, edit: Callable[[Tensors], object], told: str
):
    zoo("a"), edit_tensors(zoo("b"), edit)
    stack: dict[str, Any] = {"base": None, "method": "passthrough", "owner": "a"}
    first, second = ({"source": "b", "layer": layer} for layer in (0, 1))
    space = {"algorithm": "cmaes", "route": {}}
    for used in ({"slices": [{"source": "b", "layers": [1, 2]}]}, {"route": [first, second]}, {"search": space}):
        assert told in of(check(recipe("a", "b", **stack, **used), tmp_path), "sources.b.layers.1", "error"), used
    # The owner's own layers are no different.
    edit_tensors(tmp_path / "a", edit)
    own = recipe("a", **stack, slices=[{"source": "a", "layers": [0, 2]}])
    assert told in of(check(own, tmp_path), "sources.a.layers.1", "error")
    for unused in ({"slices": [{"source": "b", "layers": [0, 1]}]}, {"route": [first, first]}):
        found = check(recipe("a", "b", **stack, **unused), tmp_path)
        assert not [key for key in errors(found) if "layers" in key], found


def test_a_group_without_a_tensor_is_refused(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("ja")
    groups = {"typo": ["*.mlpp.*"], "rest": ["*"], "late": ["layers 1-1"]}
    findings = check(recipe("ja", groups=groups), tmp_path)
    for name in ("typo", "late"):
        assert "no tensor is in this group" in of(findings, f"groups.{name}", "error")
    assert not [finding for finding in findings if finding.key == "groups.rest"]


def test_settings_that_a_method_has_no_use_for_are_told(zoo: Save, tmp_path: Path):
    zoo("base")
    zoo("ja")
    unused = {
        "parameters": {"ja": {"density": 0.1}},
        "options": {"rescale": "l1"},
        "search": {"density": [0.1, 1.0]},
    }
    findings = check(recipe("ja", method="task_arithmetic", **unused), tmp_path)
    for key in ("parameters.ja.density", "options.rescale", "search.density"):
        assert "task_arithmetic drops nothing" in of(findings, key, "warning")
    used = check(recipe("ja", method="dare_ties", **unused), tmp_path)
    assert not [finding for finding in used if "drops nothing" in finding.text]
