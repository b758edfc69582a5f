"""The fused kernels say what plain torch says: by Triton's interpreter where there is no GPU, on one where there is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.engines import _memory
from evovlm.engines._pooled_runner import PooledRunner
from evovlm.engines._runner import Size
from evovlm.engines._self_check import deviation
from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item
from tests.hub_layouts import save_llm
from tests.vlm_families import save_family

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHARED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = save_llm(tmp_path_factory.mktemp("llm") / "llm", num_key_value_heads=2)
    return Engine.load(folder, device=DEVICE, dtype=torch.float32)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused path on a CPU too; the interpreter asks an array of one element for a number, as old numpy let it."""
    monkeypatch.setattr(_memory, "has_fused", lambda tower: True)
    if DEVICE == "cpu":
        from triton.runtime import interpreter

        patch = interpreter._patch_lang_tensor

        def with_index(tensor: Any, scope: Any) -> None:
            patch(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

        monkeypatch.setattr(interpreter, "_patch_lang_tensor", with_index)


@pytest.mark.slow
@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("words", [("", "a ", "one two "), (SHARED + "a", SHARED + "b c", SHARED + "d")])
def test_the_pool_answers_as_plain_rows_do(llm: Engine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]):
    """Prompts alone and prompts that share their beginning; two rows at a time, so that the third one waits."""
    items = [Item(str(number), f"{text}{number}", ("x",), None) for number, text in enumerate(words)]
    assert llm.lean is not None
    prepared = llm.prepare(items, Generation("{question}", 3), 2)
    answers = llm.answer(prepared)
    assert isinstance(llm.lean._runner, PooledRunner)
    again = llm.answer(prepared) if DEVICE == "cuda" else answers
    monkeypatch.setattr(_memory, "has_fused", lambda tower: False)
    plain = llm.answer(llm.prepare(items, Generation("{question}", 3), 2))
    assert answers == again == plain
    assert len(set(answers)) > 1


@pytest.mark.slow
@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_pool_has_a_place_for_pictures_in_grids(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Positions in three directions, a shared picture, and for Qwen3-VL norms of heads and features added later."""
    mark = save_family(family, tmp_path).mark
    engine = Engine.load(tmp_path, device=DEVICE, self_check=False)
    assert engine.lean is not None
    picture = Image.linear_gradient("L").resize((70, 60)).convert("RGB")
    texts = (f"{mark}a", f"{mark}b", f"so {mark}", "no picture")
    images = [lambda: picture] * 3
    pairs = zip(texts, [*images, None], strict=True)
    items = [Item(str(number), text, ("x",), image) for number, (text, image) in enumerate(pairs)]
    prompts = engine.prepare(items, Generation("{question} c", 3), 2).prompts
    fused = engine.lean.logits(prompts, [5] * len(prompts))
    monkeypatch.setattr(_memory, "has_fused", lambda tower: False)
    plain = engine.lean.logits(prompts, [5] * len(prompts))
    for row in range(len(prompts)):
        assert deviation(fused[:, row], plain[:, row]) < 1e-5


@pytest.mark.usefixtures("fused")
def test_a_pool_that_memory_cut_down_still_serves_its_set(llm: Engine):
    assert llm.lean is not None
    wanted = Size(rows=2, own=64, longest=64, tokens=2 * 64 + 128)
    runner = PooledRunner(llm.lean.tower, wanted._replace(tokens=2 * 64 + 64), wanted)
    assert runner.serves(wanted)
    assert not runner.serves(wanted._replace(tokens=wanted.tokens + 64))
    assert not runner.serves(wanted._replace(rows=1))
