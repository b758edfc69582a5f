import gc
import json
import struct
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from evovlm.models import _header
from evovlm.models.checkpoint import Checkpoint
from evovlm.system.errors import CheckpointError

TENSORS = {
    "a": torch.arange(12, dtype=torch.bfloat16).reshape(3, 4),
    "b": torch.arange(5, dtype=torch.float32),
    "c": torch.tensor([True, False]),
    "d": torch.tensor(7, dtype=torch.int64),
    "e": torch.empty(0, 3),
}


def save_sharded(folder: Path, *, index: dict[str, str] | None = None) -> Path:
    folder.mkdir()
    save_file({key: TENSORS[key] for key in "ab"}, folder / "model-00001-of-00002.safetensors")
    save_file({key: TENSORS[key] for key in "cde"}, folder / "model-00002-of-00002.safetensors")
    weight_map = {key: f"model-0000{1 + (key in 'cde')}-of-00002.safetensors" for key in TENSORS} | (index or {})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def save_raw(folder: Path, header: object, data: bytes = b"") -> Path:
    folder.mkdir()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


def row(start: int, stop: int, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [stop - start] if shape is None else shape, "data_offsets": [start, stop]}


@pytest.fixture
def single(tmp_path: Path) -> Path:
    folder = tmp_path / "single"
    folder.mkdir()
    save_file(TENSORS, folder / "model.safetensors")
    return folder


def test_a_single_file_gives_back_what_was_saved(single: Path):
    checkpoint = Checkpoint.open(single)
    assert sorted(checkpoint.keys()) == sorted(TENSORS)
    for key, tensor in TENSORS.items():
        assert (checkpoint.shape(key), checkpoint.dtype(key)) == (tuple(tensor.shape), tensor.dtype)
        assert torch.equal(checkpoint.tensor(key), tensor)
    assert checkpoint.nbytes == 24 + 20 + 2 + 8


def test_shards_give_back_what_was_saved(tmp_path: Path):
    checkpoint = Checkpoint.open(save_sharded(tmp_path / "sharded"))
    assert all(torch.equal(checkpoint.tensor(key), tensor) for key, tensor in TENSORS.items())
    assert len(checkpoint.keys()) == 5


def test_a_tensor_that_a_shard_holds_beyond_its_index_is_read_too(tmp_path: Path):
    folder = save_sharded(tmp_path / "sharded")
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    del weight_map["b"]
    path.write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(Checkpoint.open(folder).tensor("b"), TENSORS["b"])


def test_a_file_larger_than_memory_is_read_where_it_is_touched(tmp_path: Path):
    big = 2 * psutil.virtual_memory().total
    folder = save_raw(tmp_path / "sparse", {"big": row(0, big), "small": row(big, big + 4)})
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) + big + 4)  # a hole: no disk is used
    before = psutil.Process().memory_info().rss
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.tensor("small").tolist() == [0, 0, 0, 0]
    assert checkpoint.tensor("big")[big // 2].item() == 0
    assert psutil.Process().memory_info().rss - before < 2**27


def test_tensors_behind_an_unpadded_header_read_the_same(tmp_path: Path):
    values = torch.arange(6, dtype=torch.float32)
    text = json.dumps({"t": row(0, 24, "F32", [2, 3])}).encode()
    text += b" " * ((2 - len(text)) % 4)  # the data begin at 2 modulo 4
    folder = save_raw(tmp_path / "raw", text, values.numpy().tobytes())
    assert torch.equal(Checkpoint.open(folder).tensor("t"), values.reshape(2, 3))


def test_writing_to_a_tensor_never_reaches_the_file(single: Path):
    Checkpoint.open(single).tensor("b").fill_(9)
    assert torch.equal(Checkpoint.open(single).tensor("b"), TENSORS["b"])


def test_a_tensor_outlives_its_checkpoint(single: Path):
    tensor = Checkpoint.open(single).tensor("b")
    gc.collect()
    assert torch.equal(tensor, TENSORS["b"])


def test_an_unknown_key_is_named(single: Path):
    with pytest.raises(CheckpointError, match="no tensor 'z'"):
        Checkpoint.open(single).tensor("z")


def test_a_file_cut_anywhere_is_refused(single: Path):
    path = single / "model.safetensors"
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors (is|has)"):
            Checkpoint.open(single)


def test_a_pointer_of_git_lfs_is_told_as_such(single: Path):
    (single / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        Checkpoint.open(single)


def test_bytes_behind_the_last_tensor_are_refused(single: Path):
    with (single / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckpointError, match="has bytes after its last tensor"):
        Checkpoint.open(single)


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [
        (b"{not json}", b"", "damaged header"),
        (b"[1, 2]", b"", "damaged header"),
        ({"a": {"dtype": "U8"}}, b"", "damaged header"),
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8"}}',
            b"\0",
            "`a` occurs twice",
        ),
        ({"a": row(0, 4), "b": row(2, 6)}, bytes(6), "cannot be b"),
        ({"a": row(0, 2), "b": row(4, 6)}, bytes(6), "cannot be b"),
        ({"a": row(0, 4, "F32", [2])}, bytes(4), r"cannot be a of shape \[2\]"),
        ({"a": row(0, 4, "Q4_0")}, bytes(4), "unknown dtype Q4_0"),
        ({}, b"", "holds no tensors"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, data: bytes, text: str):
    with pytest.raises(CheckpointError, match=text):
        Checkpoint.open(save_raw(tmp_path / "raw", header, data))


def test_a_length_that_is_garbage_is_not_allocated(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Checkpoint.open(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path):
    folder = save_sharded(tmp_path / "sharded")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 shards are missing \(model-00002-of-00002"):
        Checkpoint.open(folder)


def test_an_index_that_names_an_absent_key_is_refused(tmp_path: Path):
    folder = save_sharded(tmp_path / "sharded", index={"ghost": "model-00001-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"names 1 keys.*'ghost'"):
        Checkpoint.open(folder)


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path):
    folder = save_sharded(tmp_path / "sharded", index={"a": "model-00002-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match="the first is 'a'"):
        Checkpoint.open(folder)


def test_a_key_in_two_shards_is_refused(tmp_path: Path):
    folder = save_sharded(tmp_path / "sharded")
    save_file(TENSORS, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"is in model-00001-of-00002\.safetensors too"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "pytorch_model.bin", "/etc/passwd", 3])
def test_an_index_that_points_out_of_the_folder_is_refused(tmp_path: Path, name: object):
    folder = save_sharded(tmp_path / "sharded", index={"a": name})  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match=r"not a \.safetensors file in this folder"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_a_damaged_index_is_refused(tmp_path: Path, text: str):
    folder = save_sharded(tmp_path / "sharded")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_refused_unread_with_the_command_that_converts_them(tmp_path: Path, name: str):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / name).write_bytes(b"never read")
    with pytest.raises(CheckpointError, match=rf"only pickled weights.*`evovlm convert '{folder}' OUT`, and name OUT"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["weights.pth", "model.ckpt", "training_args.bin"])
def test_pickles_that_cannot_be_converted_are_refused_without_the_command(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"never read")
    with pytest.raises(CheckpointError, match=rf"has only pickles \({name}\).*not under the names of transformers"):
        Checkpoint.open(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"no weights; expected model\.safetensors"):
        Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match="is not a folder"):
        Checkpoint.open(tmp_path / "absent")


def test_shards_without_their_index_are_told(tmp_path: Path):
    (save_sharded(tmp_path / "sharded") / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="fetch the index too"):
        Checkpoint.open(tmp_path / "sharded")


def test_more_tensors_than_any_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file({f"w{number}": torch.zeros(1) for number in range(4)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(_header, "MOST_TENSORS", 4)
    assert len(Checkpoint.open(tmp_path).keys()) == 4
    monkeypatch.setattr(_header, "MOST_TENSORS", 3)
    with pytest.raises(CheckpointError, match=r"damaged header \(4 tensors, more than the 3"):
        Checkpoint.open(tmp_path)
