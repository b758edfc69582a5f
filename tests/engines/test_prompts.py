from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import blind_prompt, plan_batches
from evovlm.tasks import Generation, Item
from tests.hub_layouts import save_vlm


def test_the_plan_sorts_by_length_and_keeps_the_order_of_equals():
    assert plan_batches([3, 9, 3, 9, 5], 2) == [[1, 3], [4, 0], [2]]


def test_a_plan_of_equal_lengths_pads_nothing():
    assert plan_batches([3, 9, 3, 9, 5, 9], 2, alike=True) == [[1, 3], [5], [4], [0, 2]]


def test_a_plan_of_nothing_is_empty():
    assert plan_batches([], 4) == []


def test_a_prompt_without_an_image_has_no_place_for_one():
    assert blind_prompt("[INST] <image>\n{question} [/INST]", "何色?") == "[INST] 何色? [/INST]"


@pytest.mark.parametrize("next_", [True, False], ids=["LlavaNext", "Llava"])
def test_the_base_tile_alone_is_what_the_model_makes_of_the_whole_picture(tmp_path: Path, next_: bool):
    engine = Engine.load(save_vlm(tmp_path / "vlm", next_=next_), dtype=torch.float32)
    item = Item("one", "what", ("x",), lambda: Image.new("RGB", (48, 80), "red"))
    full = Generation("<image>\n{question}", max_new_tokens=4)
    whole = engine.prepare([item], full, 1).prompts[0]
    base = engine.prepare([item], replace(full, base_tile=True), 1).prompts[0]
    assert base.features is not None
    assert whole.features is not None
    image = engine.model.config.image_token_id
    assert int((base.ids == image).sum()) == len(base.features)
    assert base.ids[base.ids != image].tolist() == whole.ids[whole.ids != image].tolist()
    if not next_:
        assert torch.equal(base.features, whole.features)
        return
    inputs = engine.processor(text="<image>\nwhat", images=Image.new("RGB", (48, 80), "red"), return_tensors="pt")
    eyes = engine.model.model.vision_tower(inputs["pixel_values"][0, :1], output_hidden_states=True)
    seen = eyes.hidden_states[engine.model.config.vision_feature_layer][:, 1:]
    expected = engine.model.model.multi_modal_projector(seen)[0]
    assert torch.allclose(base.features[:-1], expected, atol=1e-5)
    assert torch.equal(base.features[-1], engine.model.model.image_newline)
    assert len(base.features) < len(whole.features) / 2
    assert len(engine.answer(engine.prepare([item], replace(full, base_tile=True), 1))) == 1
