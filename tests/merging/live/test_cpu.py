"""A candidate merged into live parameters is the same as one built to disk, whatever came before it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.methods import METHODS
from evovlm.recipe.schema import Recipe
from tests.methods.merging import as_many
from tests.parameters import slow_but


def recipe(paper: dict[str, Path], method: str, ja: float, density: float) -> Recipe:
    parameters = {"ja": {"weight": ja, "density": density}, "math": {"weight": 0.4, "density": density}}
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": str(paper["base"])},
        "sources": [{"name": name, "model": str(paper[name])} for name in as_many(method, ("ja", "math"))],
        "owner": "ja",
        "method": method,
        "parameters": {name: parameters[name] for name in as_many(method, ("ja", "math"))},
        "groups": 1,
    }
    return Recipe.model_validate(content)


def beyond(plan: Recipe, weight: Any) -> Recipe:
    """The recipe with a weight that no recipe may hold, so that merged weights overflow."""
    ja = plan.of("ja").model_copy(update={"weight": weight})
    return plan.model_copy(update={"parameters": {**plan.parameters, "ja": ja}})


def live(folder: Path, recipe: Recipe) -> tuple[ResidentMerger, dict[str, torch.nn.Parameter]]:
    assembly = assemble(recipe, Path())
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan)) for job in assembly.jobs}
    return ResidentMerger(assembly, tower), tower


SEARCHED = sorted(set(METHODS) - {"passthrough"})


@pytest.mark.parametrize("method", slow_but(SEARCHED, {"dare_ties", "linear", "slerp"}))
def test_live_weights_equal_the_checkpoints_bit_for_bit(paper: dict[str, Path], tmp_path: Path, method: str):
    merger, tower = live(tmp_path, recipe(paper, method, 0.2, 0.9))
    # Other candidates come first: what is kept between candidates must not show.
    merger.merge(recipe(paper, method, 0.2, 0.9))
    merger.merge(recipe(paper, method, 0.9, 0.3))
    candidate = recipe(paper, method, 0.7, 0.6)
    merger.merge(candidate)
    build_checkpoint(assemble(candidate, Path()), tmp_path / "out")
    stored: dict[str, torch.Tensor] = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        stored |= load_file(path)
    for name, tensor in stored.items():
        assert torch.equal(tower[name].data, tensor.float()), name


def test_methods_may_change_between_candidates(paper: dict[str, Path], tmp_path: Path):
    merger, tower = live(tmp_path, recipe(paper, "dare_ties", 0.5, 0.5))
    merger.merge(recipe(paper, "dare_ties", 0.5, 0.5))
    merger.merge(recipe(paper, "linear", 0.5, 0.5))
    after = {name: parameter.data.clone() for name, parameter in tower.items()}
    fresh, other = live(tmp_path, recipe(paper, "linear", 0.5, 0.5))
    fresh.merge(recipe(paper, "linear", 0.5, 0.5))
    assert all(torch.equal(after[name], other[name].data) for name in after)


def test_weights_that_are_not_finite_are_an_error(paper: dict[str, Path], tmp_path: Path):
    merger, _ = live(tmp_path, recipe(paper, "task_arithmetic", 0.5, 1.0))
    with pytest.raises(FloatingPointError, match="not finite"):
        merger.merge(beyond(recipe(paper, "task_arithmetic", 0.5, 1.0), 1e41))


def test_threads_change_no_bit(paper: dict[str, Path], tmp_path: Path):
    plan = recipe(paper, "dare_ties", 0.5, 0.5)
    assembly = assemble(plan, Path())
    towers = []
    for threads in (1, 3):
        tower = {job.name: torch.nn.Parameter(torch.zeros(job.shape)) for job in assembly.jobs}
        ResidentMerger(assembly, tower, threads=threads).merge(plan)
        towers.append(tower)
    assert all(torch.equal(towers[0][name].data, towers[1][name].data) for name in towers[0])
