"""Who answers by a candidate that is still merged hears of its faults, before anything else that went wrong."""

import pytest
import torch

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item
from tests.hub_layouts import save_llm

ITEMS = [Item("1", "one two", ("x",), None)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_llm(tmp_path_factory.mktemp("llm") / "llm"), dtype=torch.float32)


def fault() -> None:
    raise FloatingPointError("model.norm.weight: the merged weights are not finite")


@pytest.mark.parametrize("beams", [1, 2])
def test_a_fault_of_the_merge_is_told_by_the_answering_once(engine: Engine, beams: int):
    prepared = engine.prepare(ITEMS, Generation("{question}", max_new_tokens=2, num_beams=beams), 1)
    said = engine.answer(prepared)
    engine.arrivals.begin(fault)
    with pytest.raises(FloatingPointError, match=r"model\.norm\.weight"):
        engine.answer(prepared)
    assert engine.answer(prepared) == said


def test_a_fault_of_the_merge_is_told_rather_than_what_came_of_it(engine: Engine):
    prepared = engine.prepare(ITEMS, Generation("{question}", max_new_tokens=2), 1)
    weight = engine.tower["model.norm.weight"].data
    kept = weight.clone()
    engine.arrivals.begin(fault)
    try:
        weight.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match=r"model\.norm\.weight"):
            engine.answer(prepared)
    finally:
        weight.copy_(kept)
