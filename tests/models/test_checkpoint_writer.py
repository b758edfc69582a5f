import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evovlm.models.checkpoint import Checkpoint, CheckpointWriter, TensorInfo
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import save_llm

GENERATOR = torch.Generator().manual_seed(0)
TENSORS = {
    "flags": torch.tensor([True, False, True]),
    "count": torch.tensor(3, dtype=torch.int64),
    "empty": torch.empty(0, 4, dtype=torch.float16),
    **{f"w{index}": torch.randn(10, 6, generator=GENERATOR).to(torch.bfloat16) for index in range(9)},
    "bias": torch.randn(7, generator=GENERATOR),
}


def infos(tensors: dict[str, torch.Tensor] = TENSORS) -> list[TensorInfo]:
    return [TensorInfo(name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()]


def write(out: Path, parts: list[TensorInfo], body: Callable[[CheckpointWriter], object]) -> None:
    with CheckpointWriter(out, parts) as writer:
        body(writer)


def write_all(writer: CheckpointWriter) -> None:
    for name, tensor in TENSORS.items():
        writer.write(name, tensor)


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("most", [10**9, 300, 1])
def test_tensors_written_in_any_order_by_many_threads_read_back_equal(tmp_path: Path, most: int):
    with CheckpointWriter(tmp_path / "out", infos(), max_shard_bytes=most) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: writer.write(name, TENSORS[name]), reversed(TENSORS)))
    read = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        read |= load_file(path)
    assert read.keys() == TENSORS.keys()
    checkpoint = Checkpoint.open(tmp_path / "out")
    for name, tensor in TENSORS.items():
        assert torch.equal(read[name], tensor)
        assert torch.equal(checkpoint.tensor(name), tensor)
        assert read[name].dtype == tensor.dtype


def test_shards_are_named_as_the_hub_names_them_and_hold_no_more_than_asked(tmp_path: Path):
    with CheckpointWriter(tmp_path / "out", infos(), max_shard_bytes=300) as writer:
        for name, tensor in TENSORS.items():
            writer.write(name, tensor)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in TENSORS.values())
    shards = sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for shard in shards:
        assert sum(tensor.nbytes for tensor in load_file(tmp_path / "out" / shard).values()) <= 300


def test_transposed_and_sliced_tensors_are_written_as_they_read(tmp_path: Path):
    square = torch.arange(16.0).reshape(4, 4)
    with CheckpointWriter(tmp_path / "out", [TensorInfo("t", (4, 2), torch.float32)]) as writer:
        writer.write("t", square.T[:, 1:3])
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["t"], square.T[:, 1:3])


def test_transformers_loads_what_was_written(tmp_path: Path):
    source = Checkpoint.open(save_llm(tmp_path / "llm"))
    parts = [TensorInfo(key, source.shape(key), source.dtype(key)) for key in source.keys()]
    with CheckpointWriter(tmp_path / "out", parts, max_shard_bytes=10**6) as writer:
        for part in parts:
            writer.write(part.name, source.tensor(part.name))
        (writer.folder / "config.json").write_bytes((tmp_path / "llm" / "config.json").read_bytes())
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(value, source.tensor(key)) for key, value in loaded.state_dict().items())


def test_nothing_stands_under_the_name_before_the_end(tmp_path: Path):
    with CheckpointWriter(tmp_path / "out", infos()) as writer:
        for name, tensor in TENSORS.items():
            writer.write(name, tensor)
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_shard_is_not_held_in_memory(tmp_path: Path):
    tensor = torch.ones(2**20)  # 4 MiB
    parts = [TensorInfo(f"t{index}", (2**20,), torch.float32) for index in range(100)]

    def anonymous() -> int:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    with CheckpointWriter(tmp_path / "out", parts) as writer:
        before = anonymous()
        for part in parts:
            writer.write(part.name, tensor)
        assert anonymous() - before < 16 * 1024  # kB, of 400 MiB written


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    def body(writer: CheckpointWriter) -> None:
        writer.write("bias", TENSORS["bias"])
        raise error

    with pytest.raises(error):
        write(tmp_path / "out", infos(), body)
    assert nothing_left(tmp_path)


def test_a_real_interrupt_in_the_middle_leaves_nothing(tmp_path: Path):
    script = f"""
import time, torch
from pathlib import Path
from evovlm.models.checkpoint import CheckpointWriter, TensorInfo
with CheckpointWriter(Path({str(tmp_path)!r}) / "out", [TensorInfo("t", (1000,), torch.float32)] ) as writer:
    writer.write("t", torch.ones(1000))
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert not nothing_left(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    process.stdout.close()
    assert nothing_left(tmp_path)


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path):
    program = f"""
import sys, time
from pathlib import Path
import torch
from evovlm.models.checkpoint_writer import CheckpointWriter, TensorInfo
with CheckpointWriter(Path({str(tmp_path / "out")!r}), [TensorInfo("t", (9,), torch.float32)]):
    print("open", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        (theirs,) = tmp_path.iterdir()
        with pytest.raises(RuntimeError), CheckpointWriter(tmp_path / "out", infos()):
            raise RuntimeError
        assert list(tmp_path.iterdir()) == [theirs]
        other.kill()
        other.wait()
    write(tmp_path / "out", infos(), write_all)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_tensor_never_written_is_an_error_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(CheckpointError, match="12 tensors were never written, first"):
        write(tmp_path / "out", infos(), lambda writer: writer.write("bias", TENSORS["bias"]))
    assert nothing_left(tmp_path)


def test_what_was_not_declared_so_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="declared twice"):
        CheckpointWriter(tmp_path / "out", [*infos(), infos()[0]])
    with CheckpointWriter(tmp_path / "out", infos()) as writer:
        with pytest.raises(CheckpointError, match="was not declared"):
            writer.write("ghost", torch.ones(1))
        with pytest.raises(CheckpointError, match="declared"):
            writer.write("bias", torch.ones(8))
        with pytest.raises(CheckpointError, match="declared"):
            writer.write("bias", torch.ones(7, dtype=torch.float64))
        write_all(writer)
        with pytest.raises(CheckpointError, match="written twice"):
            writer.write("bias", TENSORS["bias"])
    with pytest.raises(CheckpointError, match="after the checkpoint was closed"):
        writer.write("w0", TENSORS["w0"])
    assert torch.equal(Checkpoint.open(tmp_path / "out").tensor("bias"), TENSORS["bias"])


def test_an_out_folder_that_exists_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(CheckpointError, match="out exists"), CheckpointWriter(tmp_path / "out", infos()):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


def test_an_empty_folder_made_meanwhile_is_not_replaced(tmp_path: Path):
    def body(writer: CheckpointWriter) -> None:
        write_all(writer)
        (tmp_path / "out").mkdir()

    with pytest.raises(CheckpointError, match="created by another process"):
        write(tmp_path / "out", infos(), body)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_where_a_folder_is_needed_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="name another folder"), CheckpointWriter(tmp_path / "file/out", infos()):
        pass


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(small_disk: Path):
    parts = [TensorInfo("t", (2**20,), torch.float32)]
    with pytest.raises(
        CheckpointError, match=r"disk is full: the checkpoint needs 4,194,304 bytes.*1,048,576 bytes are free"
    ):
        CheckpointWriter(small_disk / "out", parts).__enter__()
    assert nothing_left(small_disk)


def test_a_disk_that_fills_up_in_the_middle_is_told_and_leaves_nothing(small_disk: Path):
    def body(writer: CheckpointWriter) -> None:
        (small_disk / "other").write_bytes(bytes(500_000))
        writer.write("t", torch.ones(200_000))

    with pytest.raises(CheckpointError, match="disk is full: the checkpoint needs 800,000 bytes"):
        write(small_disk / "out", [TensorInfo("t", (200_000,), torch.float32)], body)
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_a_config_file_that_no_longer_fits_is_told_and_leaves_nothing(small_disk: Path):
    def body(writer: CheckpointWriter) -> None:
        writer.write("t", torch.ones(200_000))
        (writer.folder / "tokenizer.json").write_bytes(bytes(500_000))

    with pytest.raises(CheckpointError, match="disk is full"):
        write(small_disk / "out", [TensorInfo("t", (200_000,), torch.float32)], body)
    assert nothing_left(small_disk)


def test_no_descriptor_stays_open(tmp_path: Path):
    before = psutil.Process().num_fds()
    write(tmp_path / "whole", infos(), write_all)
    with pytest.raises(CheckpointError, match="never written"):
        write(tmp_path / "broken", infos(), lambda writer: None)
    assert psutil.Process().num_fds() == before
