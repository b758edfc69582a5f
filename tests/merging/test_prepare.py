"""Task vectors are prepared before a search, in a phase with a step per tensor; merges then give the same bits."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evovlm.merging import prepare
from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.build import build_checkpoint
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.prepare import prepare_vectors, vector_bytes
from evovlm.merging.vector_files import Ask, VectorFiles
from evovlm.methods import METHODS
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import StudyError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def paper(paper_of_few_tokens: dict[str, Path]) -> dict[str, Path]:
    """A small vocabulary makes the many merges here quick."""
    return paper_of_few_tokens


def recipe(paper: dict[str, Path], method: str = "tsv_m", ja: float = 0.7, **options: Any) -> Recipe:
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": str(paper["base"])},
        "sources": [{"name": name, "model": str(paper[name])} for name in ("ja", "math")],
        "owner": "ja",
        "method": method,
        "options": options,
        "parameters": {"ja": {"weight": {"layers 0-1": ja}}, "math": {"weight": 0.4}},
        "groups": 1,
    }
    return Recipe.model_validate(content)


def kept(plan: Recipe, folder: Path) -> Assembly:
    return replace(assemble(plan, Path()), vectors=VectorFiles(folder))


class Noting:
    """A watch that counts phases and steps."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int]] = []
        self.steps: list[str] = []
        self.before = 0  # steps that were found

    def phase(self, name: str, total: int) -> None:
        self.phases.append((name, total))

    def step(self, text: str, **figures: float | None) -> None:
        self.steps.append(text)

    def resumed(self) -> None:
        self.before = len(self.steps)


def merged(assembly: Assembly, plan: Recipe) -> dict[str, torch.nn.Parameter]:
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan)) for job in assembly.jobs}
    ResidentMerger(assembly, tower).merge(plan)
    return tower


def test_every_tensor_is_a_step_and_the_next_run_finds_all(paper: dict[str, Path], tmp_path: Path):
    plan, names = recipe(paper), [job.name for job in assemble(recipe(paper), Path()).jobs]
    for found in (0, len(names)):
        watch, assembly = Noting(), kept(plan, tmp_path / "vectors")
        prepare_vectors(assembly, CPU, watch)
        assert watch.phases == [("task vectors", len(names))]
        assert sorted(watch.steps) == sorted(names)
        assert watch.before == found
        prepare_vectors(assembly, CPU, watch)
        assert len(watch.phases) == 1, "nothing is left to do"
    size = sum(path.stat().st_size for path in (tmp_path / "vectors").iterdir())
    assert vector_bytes(assembly) < size < 1.1 * vector_bytes(assembly) + 1000 * len(names)


@pytest.mark.parametrize(("method", "vectors"), [("tsv_m", 2), ("iso_c", 1)])
def test_the_bytes_are_two_per_element_of_a_base_of_16_bits(paper: dict[str, Path], method: str, vectors: int):
    assembly = assemble(recipe(paper, method), Path())
    assert {assembly.base_dtype(job) for job in assembly.jobs} == {torch.bfloat16}
    assert vector_bytes(assembly) == sum(2 * math.prod(job.shape) * vectors for job in assembly.jobs)


def test_nothing_is_prepared_for_other_methods_or_without_a_folder(paper: dict[str, Path], tmp_path: Path):
    watch = Noting()
    prepare_vectors(kept(recipe(paper, "task_arithmetic"), tmp_path / "vectors"), CPU, watch)
    prepare_vectors(assemble(recipe(paper), Path()), CPU, watch)
    assert watch.phases == []
    assert not (tmp_path / "vectors").exists()


def test_live_weights_equal_those_of_a_checkpoint_without_files_bit_for_bit(paper: dict[str, Path], tmp_path: Path):
    assembly = kept(recipe(paper, ja=0.2), tmp_path / "vectors")
    prepare_vectors(assembly, CPU, Noting())
    candidate = recipe(paper)
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan)) for job in assembly.jobs}
    merger = ResidentMerger(assembly, tower)
    merger.merge(recipe(paper, ja=0.2))
    merger.merge(candidate)
    build_checkpoint(assemble(candidate, Path()), tmp_path / "out")
    stored: dict[str, torch.Tensor] = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        stored |= load_file(path)
    assert all(torch.equal(tower[name].data, tensor.float()) for name, tensor in stored.items())


def test_a_search_makes_no_vector_twice(paper: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assembly = kept(recipe(paper), tmp_path / "vectors")
    prepare_vectors(assembly, CPU, Noting())

    def refuse(*_: Any) -> None:
        raise AssertionError("made or hashed again")

    monkeypatch.setattr(Ask, "made", refuse)
    monkeypatch.setattr("evovlm.methods._prepared.PreparedSum.made", refuse)
    monkeypatch.setattr("evovlm.merging.vector_files._checksum", refuse)
    merged(assembly, recipe(paper, ja=0.1))


def test_what_stands_in_the_way_is_told_before_any_vector_is_made(
    paper: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "vectors").write_text("", encoding="utf-8")

    def refuse(*_: Any) -> None:
        raise AssertionError("made for nothing")

    monkeypatch.setattr(Ask, "made", refuse)
    with pytest.raises(StudyError, match="vectors: is a file, where"):
        prepare_vectors(kept(recipe(paper), tmp_path / "vectors"), CPU, Noting())


def test_forked_processes_make_the_same_files(paper: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for members in (1, 2):
        monkeypatch.setattr(prepare, "making_members", lambda jobs, members=members: members)
        prepare_vectors(kept(recipe(paper), tmp_path / str(members)), CPU, Noting())
    one, two = ({path.name: load_file(path) for path in (tmp_path / each).iterdir()} for each in ("1", "2"))
    assert set(one) == set(two)
    assert all(torch.equal(tensor, two[name][key]) for name, each in one.items() for key, tensor in each.items())


def test_a_gpu_makes_the_same_files_while_threads_write(paper: dict[str, Path], tmp_path: Path):
    """Here on a CPU, one tensor after another."""
    usual, beside = (kept(recipe(paper), tmp_path / name) for name in ("usual", "beside"))
    prepare_vectors(usual, CPU, Noting())
    watch = Noting()
    prepare._make_beside_writing(beside, list(beside.jobs), CPU, watch)
    assert watch.steps == [job.name for job in beside.jobs]
    one, two = ({path.name: load_file(path) for path in (tmp_path / each).iterdir()} for each in ("usual", "beside"))
    assert set(one) == set(two)
    assert all(torch.equal(tensor, two[name][key]) for name, each in one.items() for key, tensor in each.items())


def test_vectors_that_cannot_be_written_beside_a_gpu_end_it(paper: dict[str, Path], tmp_path: Path):
    assembly = kept(recipe(paper), tmp_path / "vectors")
    (tmp_path / "vectors").write_text("a file in the folder's place")
    with pytest.raises(StudyError, match="vectors: is a file, where"):
        prepare._make_beside_writing(assembly, list(assembly.jobs), CPU, Noting())


def test_excluded_tensors_are_averaged(paper: dict[str, Path]):
    def averaged(**options: str) -> set[str]:
        assembly = assemble(recipe(paper, **options), Path())
        return {job.name for job in assembly.jobs if assembly.options_of(job).averaged}

    assert "model.embed_tokens.weight" in averaged() <= {"model.embed_tokens.weight", "lm_head.weight"}
    assert averaged(exclude="") == set()
    named = averaged(exclude="mlp, norm")
    assert "model.norm.weight" in named
    assert all("mlp" in name or name == "model.norm.weight" for name in named)


def test_too_little_disk_is_said_before_anything_is_made(
    paper: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(StudyError, match=r"the task vectors of tsv_m need [\d,]+ bytes, and 10 are free"):
        prepare_vectors(kept(recipe(paper), tmp_path / "vectors"), CPU, Noting())
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("method", sorted(name for name, row in METHODS.items() if row.prepare is not None))
def test_every_prepared_method_can_be_kept(paper: dict[str, Path], tmp_path: Path, method: str):
    options = {"steps": 5} if method == "wudi" else {}
    assembly = kept(recipe(paper, method, **options), tmp_path / "vectors")
    prepare_vectors(assembly, CPU, Noting())
    found = merged(assembly, recipe(paper, method, **options))
    for job in [assembly.jobs[0], assembly.jobs[-1]]:
        assert torch.equal(found[job.name].data, assemble(recipe(paper, method, **options), Path()).merge(job).float())
