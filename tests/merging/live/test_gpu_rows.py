"""Vocabularies and dtypes that differ: the same resident sources give every method the rows that it defines."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.gpu import DeviceMerger
from evovlm.merging.live.placement import Place, Placement
from evovlm.methods.kernels.launch import Shape
from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.recipe.schema import Recipe
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

ROWS, OWNER_ROWS = 600, 664  # <image>, <pad> and 62 rows of padding, as LLaVA has them
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The base is float16: Triton's interpreter rounds to it as a GPU does, unlike to bfloat16.
STORED = torch.float16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    plain = make_tokenizer(ROWS)
    base = save_llm(folder / "base", rows=ROWS, tokenizer=plain, seed=1, dtype=STORED)
    tokenizer = make_tokenizer(ROWS, added=("<image>", "<pad>"))
    short = make_tokenizer(ROWS - 20)  # twenty tokens fewer, the last of the base's
    return {
        "base": base,
        "ja": save_llm(folder / "ja", rows=ROWS, tokenizer=plain, seed=2, dtype=torch.bfloat16),
        "vlm": save_vlm(folder / "vlm", rows=OWNER_ROWS, tokenizer=tokenizer, seed=3, dtype=STORED),
        "short": save_llm(folder / "short", rows=ROWS - 20, tokenizer=short, seed=4, dtype=STORED),
    }


def plan(models: dict[str, Path], method: str, base: str, weight: float = 0.7) -> Assembly:
    content: dict[str, Any] = {
        "kind": "vlm",
        "base": {"model": str(models[base])},
        "sources": [{"name": name, "model": str(models[name])} for name in ("vlm", "ja")],
        "owner": "vlm",
        "method": method,
        "parameters": {"vlm": {"weight": weight, "density": 0.5}, "ja": {"weight": 0.4, "density": 0.8}},
        "vocab": "shared",
        "dtype": "float16",
    }
    return assemble(Recipe.model_validate(content), Path())


def tower(assembly: Assembly, device: str) -> dict[str, torch.nn.Parameter]:
    shapes = {job.name: job.shape for job in assembly.jobs if job.name in VOCABULARY_TENSORS}
    return {name: torch.nn.Parameter(torch.full(shape, torch.nan, device=device)) for name, shape in shapes.items()}


@pytest.mark.parametrize("place", ["gpu", "host"])
@pytest.mark.parametrize("base", ["base", "short"])
@pytest.mark.parametrize("searched", ["task_arithmetic", "linear"])
def test_rows_that_a_model_lacks_are_filled_as_each_method_defines(models, searched: str, base: str, place: Place):
    assembly = plan(models, searched, base)
    assert any(assembly.filled_rows(job, source) is not None for job in assembly.jobs for source, _ in job.parts)
    live = tower(assembly, DEVICE)
    labels = (base, "base", "vlm", "ja")
    placement = Placement(dict.fromkeys(labels, place), dict.fromkeys(labels, 0))
    merger = DeviceMerger(assembly, live, placement, shape=Shape(groups=1024, warps=4, repeats=1))
    for method in ("linear", "task_arithmetic", "slerp", "model_stock", "linear"):
        control = plan(models, method, base, weight=0.3)
        expected = tower(control, "cpu")
        merger.merge(control.recipe)
        ResidentMerger(control, expected).merge(control.recipe)
        for name, parameter in expected.items():
            assert torch.equal(live[name].data.cpu(), parameter.data), (method, name)
