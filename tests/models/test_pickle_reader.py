"""Files that are not plain weights are refused by a process that cannot do anything else."""

import os
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from evovlm.models._pickle_reader import PickleReader
from evovlm.system.errors import CheckpointError
from tests.models.pickled import Calls, collisions, legacy, pickled, write_zip

LARGEST = 10**7


@pytest.fixture(scope="module")
def reader() -> Iterator[PickleReader]:
    """One process for all, as for all files of a checkpoint: what is refused does not end it."""
    with PickleReader(LARGEST) as opened:
        yield opened


def plain(path: Path) -> None:
    """Weights that nobody minds."""
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, path)


def test_tensors_are_listed_and_read_as_they_were_saved(reader: PickleReader, tmp_path: Path):
    tensors = {
        "bf16": torch.randn(5, 3).to(torch.bfloat16),
        "strided": torch.arange(12.0).reshape(3, 4).T,
        "row": torch.arange(12).reshape(3, 4)[1],
        "flag": torch.tensor([True, False]),
        "none": torch.empty(0, 4),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "trained": torch.nn.Parameter(torch.ones(2)),
        "large": torch.arange(5 * 10**6, dtype=torch.float32),  # in several pieces
    }
    for new in (True, False):
        path = tmp_path / f"{new}.bin"
        torch.save(OrderedDict(tensors), path, _use_new_zipfile_serialization=new)
        listed = reader.tensors_of(path)
        assert [one.info.name for one in listed] == list(tensors)
        for one, tensor in zip(listed, reader.read(path, [one.info for one in listed]), strict=True):
            assert torch.equal(tensor, tensors[one.info.name].detach())
            assert tensor.dtype == tensors[one.info.name].dtype
        assert sum(reader.check_sums(path)) > 2 * 10**7 * new - 1


def test_names_of_one_memory_are_told_and_views_of_it_are_not(reader: PickleReader, tmp_path: Path):
    table = torch.randn(6, 4)
    torch.save({"a": table, "b": table, "upper": table[:3], "copy": table.clone()}, tmp_path / "m.bin")
    same = {one.info.name: one.same_as for one in reader.tensors_of(tmp_path / "m.bin")}
    assert same == {"a": None, "b": "a", "upper": None, "copy": None}


EVIL: dict[str, Callable[[Path], Any]] = {
    "posix.system": lambda ran: Calls(os.system, f"touch {ran}"),
    "eval": lambda ran: Calls(eval, f"open({str(ran)!r}, 'w')"),
    "subprocess.Popen": lambda ran: Calls(subprocess.Popen, ["touch", str(ran)]),
    "builtins.getattr": lambda ran: Calls(getattr, "x", "upper"),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", EVIL)
def test_a_pickle_that_calls_something_is_refused_and_runs_nothing(
    reader: PickleReader, tmp_path: Path, name: str, form: str
):
    ran, path = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    content = {"w": EVIL[name](ran)}
    if form == "zip":
        write_zip(path, pickled(content))
    else:
        path.write_bytes(legacy(content))
    with pytest.raises(CheckpointError, match=rf"{path} asks for .*{name.rpartition('.')[2]} when it is loaded"):
        reader.tensors_of(path)
    time.sleep(0.05)
    assert not ran.exists()


def test_torchs_switch_for_unsafe_loading_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    write_zip(tmp_path / "m.bin", pickled({"w": Calls(os.system, f"touch {tmp_path / 'ran'}")}))
    with PickleReader(LARGEST) as own, pytest.raises(CheckpointError, match=r"asks for posix\.system"):
        own.tensors_of(tmp_path / "m.bin")
    assert not (tmp_path / "ran").exists()


def expanded(path: Path) -> None:
    """A few bytes that claim to be eight terabytes."""
    torch.save({"w": torch.ones(1).expand(2**41)}, path)


def quantised(path: Path) -> None:
    torch.save({"w": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)}, path)


def flipped(path: Path) -> None:
    plain(path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(6.0).numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    plain(path)
    path.write_bytes(path.read_bytes()[:-200])


def compressed(path: Path) -> None:
    write_zip(path, pickled({}) + b"\0" * 10**7, zipfile.ZIP_DEFLATED)


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a number": (lambda path: torch.save({"epoch": 3}, path), "holds a int as epoch, not a tensor"),
    "a state dict within": (
        lambda path: torch.save({"state_dict": {"w": torch.ones(1)}}, path),
        "a dict as state_dict",
    ),
    "a list": (lambda path: torch.save([torch.ones(1)], path), "holds one list, not tensors by name"),
    "one tensor": (lambda path: torch.save(torch.ones(1), path), "holds one Tensor"),
    "NumPy": (lambda path: torch.save({"w": np.float64(3)}, path), "asks for numpy"),
    "a key that is a number": (lambda path: torch.save({3: torch.ones(1)}, path), "has the key 3"),
    "the header's own key": (
        lambda path: torch.save({"__metadata__": torch.ones(1)}, path),
        "has the key '__metadata__'",
    ),
    "half a character": (lambda path: torch.save({"\ud800": torch.ones(1)}, path), r"has the key '\\ud800'"),
    "sparse": (lambda path: torch.save({"w": torch.eye(3).to_sparse()}, path), "holds w as a sparse_coo on cpu tensor"),
    "quantised": (quantised, "holds w as a quantised tensor"),
    "without data": (lambda path: torch.save({"w": torch.ones(2, device="meta")}, path), "strided on meta"),
    "complex": (lambda path: torch.save({"w": torch.ones(2, dtype=torch.complex64)}, path), "w has dtype complex64"),
    "expanded": (expanded, "more than its .* bytes can hold"),
    "cut off": (cut, "damaged or truncated"),
    "a flipped bit": (flipped, "record .*data/0 differs from its checksum"),
    "compressed": (compressed, "has compressed records"),
    "empty": (lambda path: path.write_bytes(b""), "not a file of torch.save"),
    "text": (lambda path: path.write_text("<html>"), "not a file of torch.save"),
    "LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "cut off, legacy": (lambda path: path.write_bytes(legacy({})[:40]), "cannot be read as weights"),
    "a bytearray": (lambda path: write_zip(path, pickled({"w": Calls(bytearray, 2**42)})), "far more memory"),
    "a tensor of nothing": (lambda path: write_zip(path, pickled({"w": Calls(torch.Tensor, 2**40)})), "more memory"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_weights_is_refused_in_a_sentence(reader: PickleReader, tmp_path: Path, name: str):
    path = tmp_path / "pytorch_model.bin"
    make, told = ODD[name]
    make(path)
    with pytest.raises(CheckpointError, match=told) as refused:
        list(reader.check_sums(path) if reader.tensors_of(path) else ())
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    plain(tmp_path / "next.bin")
    assert len(reader.tensors_of(tmp_path / "next.bin")) == 1, "the process goes on"


def test_a_pickle_that_takes_for_ever_is_ended(tmp_path: Path):
    path = tmp_path / "slow.bin"
    write_zip(path, collisions(60_000))
    plain(tmp_path / "plain.bin")
    with PickleReader(LARGEST) as own:
        own.tensors_of(tmp_path / "plain.bin")  # by now it has started
        own._seconds = 1.0
        process = psutil.Process(own._process.pid)
        started = time.monotonic()
        with pytest.raises(CheckpointError, match=rf"{path} took longer than 1 s to read, far too long"):
            own.tensors_of(path)
        assert time.monotonic() - started < 10
        assert not process.is_running()


def test_a_confined_process_may_neither_write_nor_grow(tmp_path: Path):
    """The limits hold whatever gets the better of torch's loader; here, they are asked for directly."""
    body = f"""
import signal
from evovlm.system.child import confine
confine(50_000_000)
try:
    bytearray(100_000_000)
except MemoryError:
    print("no memory")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open({str(tmp_path / "written")!r}, "w").write("x" * 10)
except OSError:
    print("no file")
"""
    done = subprocess.run([sys.executable, "-P", "-c", body], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "no memory", done.stderr
    assert (tmp_path / "written").stat().st_size == 0
