"""Products in 8 bits follow the live weights, and stay within what e4m3 can tell apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evovlm.engines import _eight_bit
from evovlm.engines._eight_bit import NAMES, copies_bytes, in_eight_bits, rounded, too_large, why_not
from evovlm.engines.eight_bit import why_not_eight_bit
from evovlm.engines.hf import Engine
from evovlm.system.device import has_float8
from evovlm.tasks import Generation, Item
from tests.hub_layouts import save_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_llm(tmp_path_factory.mktemp("llm") / "llm"), dtype=torch.float32)


def test_each_row_is_rounded_by_its_own_largest():
    stored, scale = rounded(torch.tensor([[448.0, 1.0, 0.0], [0.0, -0.224, 0.112], [0.0, 0.0, 0.0]]))
    assert scale[0] == 1.0
    back = stored.float() * scale[:, None]
    assert torch.allclose(back, torch.tensor([[448.0, 1.0, 0.0], [0.0, -0.224, 0.112], [0.0, 0.0, 0.0]]))


def test_a_product_loses_no_more_than_three_bits_of_mantissa_do(llm: Engine):
    assert llm.lean is not None
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 64, generator=stream)
    whole, small = llm.lean.tower.layers[0].gate_up, in_eight_bits(llm.lean.tower).layers[0].gate_up
    exact = inputs @ whole.t()
    error = ((small.product(inputs, None) - exact).norm() / exact.norm()).item()
    assert 1e-3 < error < 0.05  # half a unit of 2^-3 a factor at the most, of which most cancels


def test_the_copies_follow_the_live_weights_and_whole_products_come_back(llm: Engine):
    assert llm.lean is not None
    items = [Item(str(number), "one two three " * number, ("x",), None) for number in range(1, 5)]
    prepared = llm.prepare(items, Generation("{question}", 8), 4)
    small = llm.prepare(items, Generation("{question}", 8, eight_bit=True), 4)
    assert why_not_eight_bit(llm, small) is None
    before = llm.answer(prepared)
    first = llm.answer(small)
    weight = llm.tower["model.layers.0.mlp.down_proj.weight"]
    weight.data.mul_(-3.0)
    assert llm.answer(small) != first
    weight.data.div_(-3.0)
    assert llm.answer(small) == first
    assert llm.answer(prepared) == before


def test_a_folder_of_another_family_keeps_to_the_plain_path(tmp_path: Path):
    engine = Engine.load(save_llm(tmp_path / "llm", family="llama", attention_bias=True), dtype=torch.float32)
    assert engine.lean is None, "a bias behind attention is not known to the lean path"
    small = engine.prepare([Item("1", "one", ("x",), None)], Generation("{question}", 2, eight_bit=True), 1)
    assert "transformers' own layers" in str(why_not_eight_bit(engine, small))


def test_what_a_gpu_cannot_multiply_is_told(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    assert llm.lean is not None
    tower = llm.lean.tower
    assert "capability 8.9" in str(why_not(tower)), "a CPU has no such products"
    monkeypatch.setattr(_eight_bit, "has_float8", lambda device: True)
    assert "this model computes in float32" in str(why_not(tower))
    narrow = replace(tower, embed=tower.embed.to(torch.bfloat16))
    assert why_not(narrow) is None
    odd = replace(narrow.layers[0], down=torch.zeros(64, 120))
    assert "multiples of 16, not [64, 120, 128, 224]" in str(why_not(replace(narrow, layers=(odd,))))


def test_copies_need_half_as_much_memory_again(llm: Engine):
    assert llm.lean is not None
    copies = copies_bytes(llm.lean.tower)
    assert copies == 2 * (128 * 64 + 64 * 64 + 224 * 64 + 64 * 112)
    assert copies == sum(
        getattr(layer, name).nbytes for layer in in_eight_bits(llm.lean.tower).layers for name in NAMES
    )
    assert too_large(copies, copies * 3 // 2) is None
    assert "8-bit copies take" in str(too_large(copies, copies * 3 // 2 - 1))


def test_beams_have_no_8_bit_products(llm: Engine):
    beams = llm.prepare([Item("1", "one", ("x",), None)], Generation("{question}", 2, num_beams=2, eight_bit=True), 1)
    assert "beams" in str(why_not_eight_bit(llm, beams))


@pytest.mark.gpu
@pytest.mark.skipif(not has_float8("cuda") or not torch.cuda.is_available(), reason="needs a GPU with 8-bit floats")
def test_a_gpu_answers_in_8_bits_and_in_full_again(tmp_path: Path):
    engine = Engine.load(save_llm(tmp_path / "llm"), device="cuda", dtype=torch.bfloat16)
    assert engine.lean is not None
    items = [Item(str(number), "one two three " * number, ("x",), None) for number in range(1, 5)]
    prepared, small = (engine.prepare(items, Generation("{question}", 8, eight_bit=on), 4) for on in (False, True))
    assert why_not_eight_bit(engine, small) is None
    before, first = engine.answer(prepared), engine.answer(small)
    assert engine.lean.tower.layers[0].down.stored.dtype == torch.float8_e4m3fn
    assert engine.answer(prepared) == before
    assert engine.answer(small) == first
