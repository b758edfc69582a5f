"""Any number of shards needs a handful of open files, and a limit of files' size is a sentence."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evovlm.models.checkpoint import Checkpoint, CheckpointWriter, TensorInfo
from evovlm.models.zoo_models import FOLDER
from evovlm.system.errors import CheckpointError

SHARDS = 300
INFOS = [TensorInfo(f"t{number}", (number % 7,), torch.float32) for number in range(SHARDS)]


@pytest.fixture
def few_files() -> Iterator[None]:
    """Allow this process a few more files than it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_hundreds_of_shards_are_written_and_read_with_a_few_open_files(tmp_path: Path, few_files: None):
    with CheckpointWriter(tmp_path / "many", INFOS, max_shard_bytes=1) as writer:
        for number, info in enumerate(INFOS):
            writer.write(info.name, torch.full(info.shape, float(number)))
    read = Checkpoint.open(tmp_path / "many")
    held = [read.tensor(f"t{number}") for number in range(SHARDS)]
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > SHARDS / 2
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(held))


def test_a_mapping_lives_as_long_as_its_tensors(tmp_path: Path):
    with CheckpointWriter(tmp_path / "one", [TensorInfo("a", (3,), torch.float32)]) as writer:
        writer.write("a", torch.arange(3.0))
    tensor = Checkpoint.open(tmp_path / "one").tensor("a")
    assert "one/model.safetensors" in Path("/proc/self/maps").read_text()
    assert tensor.tolist() == [0.0, 1.0, 2.0]
    tensor[0] = 5.0  # reaches this process alone
    assert Checkpoint.open(tmp_path / "one").tensor("a")[0] == 0.0
    del tensor
    assert "one/model.safetensors" not in Path("/proc/self/maps").read_text()


def test_a_limit_of_file_size_is_named_and_leaves_nothing(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    info = TensorInfo("a", (100_000,), torch.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"raise `ulimit -f`, or write smaller files with --max-shard-gb"):
            CheckpointWriter(tmp_path / "big", [info]).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_models_in_many_shards_are_merged_and_asked_under_a_tight_limit(tmp_path: Path):
    for name in ("base", "ja", "math"):
        tensors = Checkpoint.open(FOLDER / name)
        infos = [TensorInfo(key, tensors.shape(key), tensors.dtype(key)) for key in tensors.keys()]
        with CheckpointWriter(tmp_path / name, infos, max_shard_bytes=1) as writer:
            for key in tensors.keys():
                writer.write(key, tensors.tensor(key))
            for path in (FOLDER / name).glob("*.json"):
                (writer.folder / path.name).write_bytes(path.read_bytes())
    recipe = (
        "kind: llm\nbase: {model: base}\nsources: [{name: ja, model: ja}, {name: math, model: math}]\nmethod: ties\n"
    )
    (tmp_path / "r.yaml").write_text(recipe, encoding="utf-8")
    for words in ("merge r.yaml out --max-shard-gb 0.0001", "evaluate ja --data zoo-maths:test --items 2"):
        limited = f'ulimit -n 64; exec "{sys.executable}" -P -m evovlm {words}'
        done = subprocess.run(["sh", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
