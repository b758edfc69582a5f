"""Small models in float32, and both paths through them."""

import pytest
import torch

from evovlm.engines.hf import Engine
from tests.hub_layouts import save_llm, save_vlm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_llm(tmp_path_factory.mktemp("llm") / "llm"), dtype=torch.float32)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_vlm(tmp_path_factory.mktemp("vlm") / "vlm"), dtype=torch.float32)


@pytest.fixture(params=["lean", "loop"])
def path(request: pytest.FixtureRequest, llm: Engine, vlm: Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both paths of the engines: the lean one, and the loop over transformers' own layers."""
    if request.param == "loop":
        for engine in (llm, vlm):
            monkeypatch.setattr(engine, "lean", None)
    return str(request.param)
