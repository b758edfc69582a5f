"""A merge of every family of text models: against float64, loaded in full, and the same in a resident model."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

from evovlm.engines.hf import Engine
from evovlm.merging.assembly import assemble
from evovlm.merging.live.choose import AUTOMATIC, merger_for
from evovlm.models.loading import load_reporting
from evovlm.recipe.yaml_file import read_recipe
from tests.command import evovlm_here
from tests.text_families import TEXT_PARAMETERS, save_text_family

WEIGHTS = {"ja": 0.6, "math": -0.3}


@pytest.mark.parametrize("kind", TEXT_PARAMETERS)
def test_a_merge_of_texts_is_right_on_disk_and_in_memory(kind: str, tmp_path: Path):
    base = save_text_family(kind, tmp_path / "base")
    for seed, name in enumerate(WEIGHTS, start=1):
        save_text_family(kind, tmp_path / name, seed, base)
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": "base"},
        "sources": [{"name": name, "model": name} for name in WEIGHTS],
        "method": "task_arithmetic",
        "dtype": "float32",
        "parameters": {name: {"weight": weight} for name, weight in WEIGHTS.items()},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    checked = evovlm_here("recipe", "check", "recipe.yaml", "--no-ask", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "warning" not in checked.stdout
    done = evovlm_here("merge", "recipe.yaml", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr

    tensors = {name: load_file(tmp_path / name / "model.safetensors") for name in ("base", *WEIGHTS, "out")}
    assert tensors["out"].keys() == tensors["base"].keys()
    for name, merged in tensors["out"].items():
        was = tensors["base"][name].double()
        expected = was + sum(weight * (tensors[one][name].double() - was) for one, weight in WEIGHTS.items())
        if "embed" in name or "lm_head" in name:  # further rows are padding, which is carried over
            expected[2000:] = was[2000:]
        assert torch.allclose(merged.double(), expected, rtol=0, atol=4e-6), name
    model, report = load_reporting(transformers.AutoModelForCausalLM, tmp_path / "out")
    assert not report.in_words()
    assert not report.left_over
    assert not report.beside

    recipe = read_recipe(path)
    engine = Engine.load(base, dtype=torch.float32, self_check=False)
    ids = torch.randint(5, 2000, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = engine.model(ids).logits
        merger_for(assemble(recipe, tmp_path), engine.tower, AUTOMATIC).merge(recipe)
        found, expected = engine.model(ids).logits, model.float()(ids).logits
    assert (found - expected).abs().max() < 1e-5 * expected.std()
    assert (before - expected).abs().max() > 0.1 * expected.std()
