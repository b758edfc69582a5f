"""An engine that would not answer as transformers does notices it when it is loaded."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from evovlm.engines import _lean, _probes, _self_check, _tower_view, hf, routed
from evovlm.engines._self_check import deviation, tolerance
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Seen
from evovlm.engines.routed import RoutedEngine
from evovlm.system.errors import CheckpointError, DataError, MachineFault
from evovlm.tasks import Generation, Item
from tests import vlm_families as families
from tests.engine_families import FAMILIES, save_family, save_gemma3
from tests.hub_layouts import save_llm, save_vlm

ASK = Generation("<start_of_image>\n{question}", max_new_tokens=10)
TALK = Generation("{question}", max_new_tokens=10)


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gemma3(tmp_path_factory.mktemp("gemma3") / "vlm")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("vlm") / "vlm")


def items(seeing: bool) -> list[Item]:
    words = ["what is this", "how many red things are there in it", "a"]
    colours = ["red", "blue", "green"]
    return [
        Item(
            id=word,
            question=word,
            references=("x",),
            image=(lambda colour=colour: Image.new("RGB", (50, 40), colour)) if seeing else None,
        )
        for word, colour in zip(words, colours, strict=True)
    ]


def test_gemma_3_sees_as_transformers_sees(gemma3: Path):
    """Its image tokens see each other; without that, logits are off by a hundredth of their spread."""
    engine = Engine.load(gemma3)
    asked = items(seeing=True)
    said = []
    for item in asked:
        assert item.image is not None
        text = ASK.template.replace("{question}", item.question)
        inputs = engine.processor(text=text, images=item.image(), return_tensors="pt")
        made = engine.model.generate(**inputs, max_new_tokens=10, do_sample=False)
        made = made[0, inputs["input_ids"].shape[1] :]
        said.append(engine.tokenizer.decode(made, skip_special_tokens=True).strip())
    assert engine.answer(engine.prepare(asked, ASK, 3)) == said
    assert len(set(said)) > 1, "the pictures make no difference: nothing was shown"
    streamed = [list(engine.stream(engine.prepare([item], ASK, 1)))[-1][0] for item in asked]
    assert streamed == said
    with pytest.raises(DataError, match=r"Gemma3ForConditionalGeneration: .* set `num_beams: 1`"):
        engine.prepare(asked, replace(ASK, num_beams=2), 3)


def test_the_check_notices_image_tokens_that_do_not_see_each_other(gemma3: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Engine, "_types", lambda self, prompts, ids: {})
    with pytest.raises(CheckpointError, match=r"vlm: its answers here would differ .* of the logits' spread"):
        Engine.load(gemma3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_and_answers_as_transformers_does(family: str, tmp_path: Path):
    engine = Engine.load(save_family(tmp_path, family))
    assert (engine.lean is not None) == (family in ("Llama", "Mistral", "Qwen2", "Qwen3"))
    asked = items(seeing=False)
    said = []
    for item in asked:
        inputs = engine.tokenizer(item.question, return_tensors="pt")
        made = engine.model.generate(**inputs, max_new_tokens=10, do_sample=False)
        made = made[0, inputs["input_ids"].shape[1] :]
        said.append(engine.tokenizer.decode(made, skip_special_tokens=True).strip())
    assert engine.answer(engine.prepare(asked, TALK, 3)) == said


def test_a_fast_path_with_another_epsilon_gives_way_to_transformers_layers(
    vlm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    right = Engine.load(vlm, dtype=torch.float32)
    assert right.lean is not None
    view = hf.view_of
    monkeypatch.setattr(hf, "view_of", lambda model, decoder: replace(view(model, decoder), eps=1e-3))
    with caplog.at_level(logging.WARNING):
        wrong = Engine.load(vlm, dtype=torch.float32)
    assert wrong.lean is None
    assert "the fast path differs from transformers' own forward pass (by" in caplog.text
    asked = [replace(item, image=None) for item in items(seeing=False)]
    assert wrong.answer(wrong.prepare(asked, TALK, 3)) == right.answer(right.prepare(asked, TALK, 3))


def test_a_fast_path_with_wrong_positions_gives_way(vlm: Path, monkeypatch: pytest.MonkeyPatch):
    """Only tokens that are read from the cache are wrong."""
    step = _lean.Schedule._step

    def late(self: Any, rows: Any, choose: Any) -> None:
        self._runner._lengths += 1
        step(self, rows, choose)
        self._runner._lengths -= 1

    monkeypatch.setattr(_lean.Schedule, "_step", late)
    assert Engine.load(vlm, dtype=torch.float32).lean is None


def test_a_fast_path_that_is_wrong_on_pictures_only_gives_way(vlm: Path, monkeypatch: pytest.MonkeyPatch):
    embed = _lean.Schedule._embed

    def blurred(self: Any, chunk: Any) -> Tensor:
        if chunk.features is not None:
            chunk = replace(chunk, features=chunk.features.flip(0))
        return embed(self, chunk)

    monkeypatch.setattr(_lean.Schedule, "_embed", blurred)
    assert Engine.load(vlm, dtype=torch.float32).lean is None


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, IndexError, KeyError, TypeError, AttributeError])
def test_a_fast_path_that_cannot_run_gives_way(
    kind: type[Exception], vlm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*given: Any, **more: Any) -> None:
        raise kind("no kernel for this device")

    monkeypatch.setattr(_lean, "new_runner", broken)
    assert Engine.load(vlm, dtype=torch.float32).lean is None
    assert f"the fast path differs from transformers' own forward pass ({kind.__name__}: " in caplog.text


def test_a_fast_path_that_makes_no_numbers_gives_way(
    vlm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    view = hf.view_of

    def dividing(model: Any, decoder: Any) -> Any:
        tower = view(model, decoder)
        return replace(tower, norm=tower.norm / 0.0)

    monkeypatch.setattr(hf, "view_of", dividing)
    engine = Engine.load(vlm, dtype=torch.float32)
    assert engine.lean is None
    assert "(NotFinite: the logits are not finite); its answers come from transformers'" in caplog.text
    asked = [replace(item, image=None) for item in items(seeing=False)]
    assert len(engine.answer(engine.prepare(asked, TALK, 3))) == 3


def test_a_fast_path_that_cannot_read_the_layers_gives_way(
    vlm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(_tower_view, "_join", lambda parts: parts.weights)
    assert Engine.load(vlm, dtype=torch.float32).lean is None
    assert "the fast path cannot read these layers (AttributeError: " in caplog.text


def test_a_vlm_that_takes_no_picture_is_refused(vlm: Path, monkeypatch: pytest.MonkeyPatch):
    engine = Engine.load(vlm, dtype=torch.float32)

    def blind(self: Any, images: Any = None, text: Any = None, **more: Any) -> Any:
        raise ValueError("give `images` as paths")

    monkeypatch.setattr(type(engine.processor), "__call__", blind)
    with pytest.raises(
        CheckpointError, match=r"vlm: it cannot be asked with a picture \('<image>': ValueError: give .*--no-self-check"
    ):
        Engine.load(vlm, dtype=torch.float32)
    Engine.load(vlm, dtype=torch.float32, self_check=False)


def test_a_vlm_whose_picture_has_other_features_than_places_is_refused(vlm: Path, monkeypatch: pytest.MonkeyPatch):
    look = _probes.look
    monkeypatch.setattr(_probes, "look", lambda *given: Seen(look(*given).features[:-1], None))
    with pytest.raises(CheckpointError, match=r"the prompt has \d+ image tokens, the picture \d+ features\)"):
        Engine.load(vlm, dtype=torch.float32)


def test_a_gpu_in_a_bad_state_is_no_reason_for_another_path(vlm: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*given: Any, **more: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(_lean, "new_runner", broken)
    with pytest.raises(MachineFault, match="illegal memory access"):
        Engine.load(vlm, dtype=torch.float32)


def test_a_model_that_is_wrong_on_both_paths_is_refused_unless_the_check_is_off(
    vlm: Path, monkeypatch: pytest.MonkeyPatch
):
    look = _probes.look
    monkeypatch.setattr(_probes, "look", lambda *given: Seen(look(*given).features.flip(0), None))
    with pytest.raises(CheckpointError, match=r"use --no-self-check"):
        Engine.load(vlm, dtype=torch.float32)
    assert Engine.load(vlm, dtype=torch.float32, self_check=False).lean is not None


def test_a_route_whose_steps_are_not_the_models_layers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folders = {name: save_llm(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))}
    assert RoutedEngine.load_pool("a", folders, dtype=torch.float32).engine.lean is None
    monkeypatch.setattr(
        routed.RoutedStep, "_compute", lambda self, hidden, context: self.layer(hidden * 1.1, **context)
    )
    with pytest.raises(CheckpointError, match="a: its answers here would differ"):
        RoutedEngine.load_pool("a", folders, dtype=torch.float32)
    RoutedEngine.load_pool("a", folders, dtype=torch.float32, self_check=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("next_", [True, False])
def test_rounding_alone_is_far_from_the_tolerance(
    dtype: torch.dtype, next_: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    apart: list[float] = []

    def noted(made: Tensor, own: Tensor) -> float:
        apart.append(deviation(made, own))
        return apart[-1]

    monkeypatch.setattr(_self_check, "deviation", noted)
    engine = Engine.load(save_vlm(tmp_path / "vlm", next_=next_), dtype=dtype)
    assert engine.lean is not None
    whole, cut = apart[:2], apart[2:]  # the whole model with and without a picture, then its layers in float32
    assert max(whole) < tolerance(dtype, 2) / 2
    assert max(cut) < tolerance(torch.float32, 2) / 50
    assert len(cut) > 2 * 5  # both paths, each in a batch


def test_a_model_whose_own_logits_are_no_numbers_is_not_blamed_on_the_engine(tmp_path: Path):
    engine = Engine.load(save_llm(tmp_path / "llm"), dtype=torch.float32)
    nn.init.constant_(engine.tower["model.norm.weight"], torch.nan)
    engine.check("llm")
    assert engine.lean is not None


def test_a_family_that_needs_a_newer_transformers_is_refused_with_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    families.save_family("paligemma2", tmp_path / "vlm")
    engine = Engine.load(tmp_path / "vlm")
    forward = type(engine.model).forward

    def capless(model: Any, *args: Any, pixel_values: Any = None, input_ids: Any = None, **more: Any) -> Any:
        """Its own forward pass is another one: the loop gives embeddings, not ids."""
        made = forward(model, *args, pixel_values=pixel_values, input_ids=input_ids, **more)
        return made if input_ids is None else replace(made, logits=made.logits / 2)

    monkeypatch.setattr(type(engine.model), "forward", capless)
    monkeypatch.setattr(_self_check.transformers, "__version__", "5.22.2")
    with pytest.raises(CheckpointError, match=r"PaliGemma 2 needs transformers 5\.23 or newer, and this is 5\.22\.2"):
        engine.check("vlm")
    monkeypatch.setattr(_self_check.transformers, "__version__", "5.23.0")
    with pytest.raises(CheckpointError, match="evovlm does not support this kind of model"):
        engine.check("vlm")
