"""The medium zoo's trainer with towers too thin to learn; a full one takes a GPU."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from evovlm.evaluators.single_model import evaluate_model
from evovlm.models.zoo_models import verify
from evovlm.system.errors import UserError
from evovlm.tasks import load_task
from evovlm.zoo import train
from evovlm.zoo._fit import scale_pixels
from evovlm.zoo._network import embed, init_eyes, init_tower, read, see
from evovlm.zoo._pools import draw_images
from evovlm.zoo.medium.plan import SHAPE, medium_plan

ROOT = Path(__file__).parent.parent.parent.parent
THIN = replace(SHAPE, hidden=64, layers=4, inner=96, heads=2, kv_heads=1, vision_hidden=32, vision_layers=1)
THIN = replace(THIN, vision_inner=32, vision_heads=2)
MODELS = ("base", "ja", "vlm")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("medium") / "medium-zoo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train.PLANS, "medium", lambda: replace(medium_plan(), shape=THIN))
        patch.setattr(train, "TOKENIZER_TEXTS", 3000)
        train.train_zoo(out, size="medium", device="cpu", scale=0.0005, models=MODELS, report=lambda line: None)
    return out


def evovlm(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "evovlm.cli", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_models_have_30_to_100_million_parameters():
    rng = torch.Generator().manual_seed(0)
    shape = replace(SHAPE, vocabulary=956)
    tower = sum(tensor.numel() for tensor in init_tower(shape, rng).values())
    eyes = sum(tensor.numel() for tensor in init_eyes(shape, rng).values())
    assert 30e6 < tower < tower + eyes < 100e6
    assert shape.image_tokens == 64


def test_the_models_load_by_the_auto_classes(zoo: Path):
    for name in ("base", "ja"):
        model = AutoModelForCausalLM.from_pretrained(zoo / name)
        tokenizer = AutoTokenizer.from_pretrained(zoo / name)
        assert type(model).__name__ == "MistralForCausalLM"
        assert len(tokenizer) == model.config.vocab_size
        assert tokenizer.decode(tokenizer("左上に鳥居").input_ids) == "左上に鳥居"
    vlm = AutoModelForImageTextToText.from_pretrained(zoo / "vlm")
    processor = AutoProcessor.from_pretrained(zoo / "vlm")
    item = load_task("zoo-medium-wild").items("search", 1, 0)[0]
    assert item.image is not None
    given = processor(images=item.image(), text=f"<image>\n{item.question}\n", return_tensors="pt")
    assert (given["input_ids"] == vlm.config.image_token_id).sum() == THIN.image_tokens
    assert vlm(**given).logits.isfinite().all()


def test_training_computes_what_the_exported_model_computes(zoo: Path):
    stored = load_file(zoo / "vlm" / "model.safetensors")
    weights = {name.removeprefix("language_model."): tensor.float() for name, tensor in stored.items()}
    shape = replace(THIN, vocabulary=weights["lm_head.weight"].shape[0])
    model = AutoModelForImageTextToText.from_pretrained(zoo / "vlm", dtype=torch.float32)
    item = load_task("zoo-medium-vqa").items("search", 1, 0)[0]
    assert item.image is not None
    given = AutoProcessor.from_pretrained(zoo / "vlm")(
        images=item.image(), text=f"<image>\n{item.question}\n", return_tensors="pt"
    )
    pixels = draw_images([item], lambda drawn, side: drawn.image(), shape.image)
    with torch.inference_mode():
        features = see(weights, shape, scale_pixels(pixels, torch.float32))
        states = read(weights, shape, embed(weights, given["input_ids"][:, shape.image_tokens :], features))
        mine = states @ weights["lm_head.weight"].T
        assert torch.allclose(mine, model(**given).logits, atol=1e-4)


def test_the_manifest_tells_the_size_and_how_each_stage_was_trained(zoo: Path):
    manifest = json.loads((zoo / "manifest.json").read_text())
    assert manifest["size"] == "medium"
    assert "--size medium" in manifest["command"]
    assert set(manifest["stages"]) == set(medium_plan().stages)
    assert all(verify(zoo, name) == zoo / name for name in MODELS)


@pytest.mark.slow
def test_the_recipe_evolves_a_trained_medium_zoo_and_the_wild_task_judges_it(zoo: Path):
    recipes = zoo.parent / "recipes"
    recipes.mkdir()
    text = (ROOT / "recipes" / "zoo-medium-vlm.yaml").read_text(encoding="utf-8")
    (recipes / "zoo-medium-vlm.yaml").write_text(text.replace("items: 300", "items: 4"), encoding="utf-8")
    run = zoo.parent / "run"
    words = ("evolve", recipes / "zoo-medium-vlm.yaml", "--out", run, "--trials", 2, "--checkpoint")
    done = evovlm(*words, "--judged", 4)
    assert done.returncode == 0, done.stderr
    told = evaluate_model(str(run / "checkpoint"), "zoo-medium-wild:test", 4, seed=0, batch=4)
    assert len(told.scores) == 4


def test_an_unknown_size_is_told_the_choices(tmp_path: Path):
    with pytest.raises(UserError, match="small, medium"):
        train.train_zoo(tmp_path / "out", size="large")


@pytest.mark.slow
def test_the_trainer_imports_neither_the_schema_nor_the_optimiser_nor_the_command_line():
    code = "import sys, evovlm.zoo.train; print([m for m in ('pydantic', 'cma', 'typer', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
