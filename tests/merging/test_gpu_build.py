"""A checkpoint merged by the kernels has the bytes of the CPU's, file by file; what they cannot merge is said."""

import errno
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.merging import build, gpu_build
from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.build import build_checkpoint
from evovlm.merging.live import gpu
from evovlm.methods.kernels import tables
from evovlm.methods.kernels.launch import Shape
from evovlm.models.checkpoint import CheckpointWriter
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

# Without a GPU the kernels run in Triton's interpreter, on the CPU.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


ROWS, OWNER_ROWS = 600, 664  # the owner has an image token and 62 rows of padding, as LLaVA does


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models that are stored in float16, to which Triton's interpreter rounds as a GPU does."""
    folder = tmp_path_factory.mktemp("models")
    plain = make_tokenizer(ROWS)
    tokenizer, short = make_tokenizer(ROWS, added=("<image>", "<pad>")), make_tokenizer(ROWS - 20)
    half = torch.float16
    return {
        "base": save_llm(folder / "base", rows=ROWS, tokenizer=plain, seed=1, dtype=half),
        "ja": save_llm(folder / "ja", rows=ROWS, tokenizer=plain, seed=2, dtype=half),
        "vlm": save_vlm(folder / "vlm", rows=OWNER_ROWS, tokenizer=tokenizer, seed=3, dtype=half),
        "short": save_llm(folder / "short", rows=ROWS - 20, tokenizer=short, seed=4, dtype=half),
    }


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """More parts than blocks of memory, and few programs, each of which costs the interpreter the same."""
    monkeypatch.setattr(build, "merge_on_gpu", partial(gpu_build.merge_on_gpu, part_elements=20_000))
    if DEVICE.type == "cpu":
        monkeypatch.setattr(gpu, "shape_for", lambda sources: Shape(groups=1024, warps=4, repeats=1))


def cut(models: dict[str, Path], *sources: str, **changes: Any) -> Assembly:
    """A merge; by the interpreter, which is slow, of the vocabulary and the first layer alone."""
    content: dict[str, Any] = {
        "kind": "vlm" if "vlm" in sources else "llm",
        "base": {"model": str(models["base"])},
        "sources": [{"name": name, "model": str(models[name])} for name in sources],
        "owner": sources[0],
        "method": "dare_ties",
        "parameters": {name: {"weight": 0.6, "density": 0.7} for name in sources},
        "options": {"rescale": "inverse"},
        "vocab": "shared",
        "dtype": "float16",
    }
    whole = assemble(Recipe.model_validate(content | changes), Path())
    on_gpu = DEVICE.type == "cuda"
    return replace(whole, jobs=tuple(job for job in whole.jobs if on_gpu or layer_of(job.name) in (0, None)))


def attention(models: dict[str, Path], **changes: Any) -> Assembly:
    """A merge of one layer's attention alone."""
    whole = cut(models, "ja", "short", **changes)
    return replace(whole, jobs=tuple(job for job in whole.jobs if ".0.self_attn." in job.name))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def both(assembly: Assembly, folder: Path, **options: Any) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The digests of the CPU's files and of the kernels', and what was said."""
    told: list[str] = []
    build_checkpoint(assembly, folder / "cpu" / "out", threads=1, **options)
    build_checkpoint(assembly, folder / "gpu" / "out", device=DEVICE, tell=told.append, **options)
    return digests(folder / "cpu" / "out"), digests(folder / "gpu" / "out"), told


@pytest.mark.parametrize("sources", [("vlm", "ja"), ("vlm", "short")])
def test_the_files_are_the_cpus_byte_by_byte(models, tmp_path, sources):
    cpu, found, told = both(cut(models, *sources), tmp_path, max_shard_bytes=60_000)
    assert len([name for name in cpu if name.endswith(".safetensors")]) > 2
    assert found == cpu
    assert told == []


@pytest.mark.parametrize("method", ["ties", "della", "slerp"])
def test_other_ways_to_merge_give_the_cpus_files(models, tmp_path, method):
    cpu, found, _ = both(attention(models, method=method), tmp_path)
    assert found == cpu


def test_tensors_whose_table_lacks_magnitudes_are_left_to_the_cpu(models, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_VALUES", 8)
    monkeypatch.setattr(tables, "STEPS", 8)
    cpu, found, told = both(attention(models, method="ties"), tmp_path)
    assert found == cpu
    assert told == ["4 tensors are merged on the CPU: they have more magnitudes than the GPU's tables keep"]


def test_what_does_not_fit_into_the_gpu_is_merged_on_the_cpu(models, tmp_path, monkeypatch):
    def short_of_memory(self: gpu.DeviceMerger) -> Iterator[gpu.Once]:
        yield from islice(whole(self), 2)
        raise torch.OutOfMemoryError("CUDA out of memory")

    whole = gpu.DeviceMerger.merge_once
    monkeypatch.setattr(gpu.DeviceMerger, "merge_once", short_of_memory)
    monkeypatch.setattr(build, "merge_on_gpu", partial(gpu_build.merge_on_gpu, part_elements=1))
    cpu, found, told = both(attention(models), tmp_path)
    assert found == cpu
    assert told == [f"the rest is merged on the CPU: {DEVICE} has not enough free memory"]


def test_stacked_layers_are_copied_by_the_cpu(models, tmp_path):
    slices = [{"source": "ja", "layers": [0, 1]}, {"source": "short", "layers": [0, 1]}]
    sources = [{"name": name, "model": str(models[name])} for name in ("ja", "short")]
    plan = {"kind": "llm", "method": "passthrough", "sources": sources, "slices": slices, "dtype": "float16"}
    cpu, found, told = both(assemble(Recipe.model_validate(plan | {"vocab": "shared"}), Path()), tmp_path)
    assert found == cpu
    assert told == ["merged on the CPU: its tensors are copied, not computed"]


def test_values_that_are_not_finite_are_refused_as_on_the_cpu(models, tmp_path):
    assembly = attention(models, method="task_arithmetic")
    heavy = {"ja": assembly.recipe.of("ja").model_copy(update={"weight": 1e9})}  # more than a recipe may say
    parameters = {**assembly.recipe.parameters, **heavy}
    assembly = replace(assembly, recipe=assembly.recipe.model_copy(update={"parameters": parameters}))
    said = []
    for device in (None, DEVICE):
        with pytest.raises(CheckpointError, match="the merged values are not finite in float16") as refused:
            build_checkpoint(assembly, tmp_path / "out", threads=1, device=device)
        said.append(str(refused.value).partition(": ")[2])  # after the tensor's name
    assert said[0] == said[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_what_ends_in_the_middle_leaves_nothing(models, tmp_path, monkeypatch, fault):
    def failing(self: CheckpointWriter, name: str, tensor: torch.Tensor) -> None:
        if "k_proj" in name:
            raise fault
        write(self, name, tensor)

    write = CheckpointWriter.write
    monkeypatch.setattr(CheckpointWriter, "write", failing)
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        build_checkpoint(attention(models), tmp_path / "out", device=DEVICE)
    assert list(tmp_path.iterdir()) == []
