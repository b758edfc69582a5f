"""A model's hash: what changes it, and that nothing is read twice."""

import json
import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from evovlm.models import file_hashes
from evovlm.models.file_hashes import Hashing, cache_folder, file_hash, model_hash
from evovlm.system.errors import CheckpointError


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that are read, with a cache folder of the test's own."""
    monkeypatch.setenv(file_hashes.CACHE, str(tmp_path / "cache"))
    names: list[str] = []
    reading = file_hashes._read

    def noting(path: Path) -> str:
        names.append(path.name)
        return reading(path)

    monkeypatch.setattr(file_hashes, "_read", noting)
    return names


def settled(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as written long ago."""
    path.write_bytes(content)
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)
    return path


def test_a_file_is_read_once(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch):
    path = settled(tmp_path / "w", b"abc", monkeypatch)
    assert file_hash(path) == file_hash(path) == sha256(b"abc").hexdigest()
    assert read == ["w"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch):
    path = settled(tmp_path / "w", b"abc", monkeypatch)
    before, stat = file_hash(path), path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_hash(path) == sha256(b"abd").hexdigest() != before


def test_another_file_moved_to_the_same_place_is_seen(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch):
    path, other = settled(tmp_path / "w", b"abc", monkeypatch), settled(tmp_path / "v", b"xyz", monkeypatch)
    file_hash(path)
    other.replace(path)
    assert file_hash(path) == sha256(b"xyz").hexdigest()


@pytest.mark.parametrize("key", ["path", "size", "mtime", "ctime", "inode"])
def test_a_hash_that_was_kept_for_another_stamp_is_not_used(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, key: str
):
    """Each part by itself: a file system may keep the others."""
    path = settled(tmp_path / "w", b"abc", monkeypatch)
    file_hash(path)
    (entry,) = (cache_folder() / "hashes").iterdir()
    kept = json.loads(entry.read_text())
    other = {"path": "x", "inode": [kept["inode"][0], kept["inode"][1] + 1]}.get(key, 1)
    entry.write_text(json.dumps(kept | {key: other, "sha256": "0" * 64}))
    assert file_hash(path) == sha256(b"abc").hexdigest()


def test_the_hash_of_a_file_that_was_just_written_is_not_kept(tmp_path: Path, read: list[str]):
    (tmp_path / "w").write_bytes(b"abc")
    file_hash(tmp_path / "w")
    file_hash(tmp_path / "w")
    assert read == ["w", "w"]


@pytest.mark.parametrize("kept", ["", "[]", '{"sha256": 3}', "[" * 5, '{"sha256": "../../x"}'])
def test_a_damaged_entry_of_the_cache_is_passed_over(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, kept: str
):
    path = settled(tmp_path / "w", b"abc", monkeypatch)
    digest = file_hash(path)
    (entry,) = (cache_folder() / "hashes").iterdir()
    entry.write_text(kept if "sha" not in kept else json.dumps(json.loads(entry.read_text()) | json.loads(kept)))
    assert file_hash(path) == digest
    assert read == ["w", "w"]


def test_a_cache_folder_that_cannot_be_made_costs_only_time(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
):
    path = settled(tmp_path / "w", b"abc", monkeypatch)
    (tmp_path / "cache").write_text("a file")
    assert file_hash(path) == file_hash(path) == sha256(b"abc").hexdigest()


def in_the_hub_cache(root: Path, blob: str, content: bytes) -> Path:
    """A snapshot of one file, linked to its blob as the hub's client does."""
    model = root / "models--org--ja"
    for folder in ("blobs", "snapshots/5e1"):
        (model / folder).mkdir(parents=True)
    (model / "blobs" / blob).write_bytes(content)
    (model / "snapshots/5e1/model.safetensors").symlink_to(f"../../blobs/{blob}")
    return model / "snapshots/5e1"


def test_a_large_file_of_the_hub_is_known_by_its_blobs_name_and_not_read(tmp_path: Path, read: list[str]):
    content = b"gigabytes"
    folder = in_the_hub_cache(tmp_path, sha256(content).hexdigest(), content)
    assert file_hash(folder / "model.safetensors") == sha256(content).hexdigest()
    assert read == []
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes(content)
    assert model_hash(plain) == model_hash(folder), "the same model in a plain folder"


def test_a_small_file_of_the_hub_is_read_for_its_name_is_gits(tmp_path: Path, read: list[str]):
    folder = in_the_hub_cache(tmp_path, "a" * 40, b"{}")
    assert file_hash(folder / "model.safetensors") == sha256(b"{}").hexdigest()


def test_a_models_hash_sees_a_byte_and_a_name_but_no_card(tmp_path: Path, read: list[str]):
    for name in ("model.safetensors", "config.json", "chat_template.jinja", "README.md"):
        (tmp_path / name).write_text(name)
    before = model_hash(tmp_path)
    (tmp_path / "README.md").write_text("two")
    assert model_hash(tmp_path) == before
    (tmp_path / "chat_template.jinja").write_text("two")
    after = model_hash(tmp_path)
    assert after != before
    (tmp_path / "config.json").rename(tmp_path / "konfig.json")
    renamed = model_hash(tmp_path)
    assert renamed not in (before, after)
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text("three")
    assert model_hash(tmp_path) != renamed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_is_not_read(tmp_path: Path, read: list[str]):
    (tmp_path / "model.safetensors").write_text("w")
    before = model_hash(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    assert model_hash(tmp_path) == before


def test_models_are_hashed_while_the_caller_goes_on(tmp_path: Path):
    go_on = threading.Event()

    def slow(folder: Path) -> str:
        assert go_on.wait(10)
        return folder.name

    hashing = Hashing({"ja": tmp_path / "a", "math": tmp_path / "b"}, slow)
    go_on.set()  # reached although both are at work
    assert hashing.result() == {"ja": "a", "math": "b"}


def test_a_file_that_cannot_be_read_is_told_where_the_hash_is_needed(tmp_path: Path, read: list[str]):
    (tmp_path / "model.safetensors").symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        file_hash(tmp_path / "model.safetensors")
    hashing = Hashing({"ja": tmp_path / "model.safetensors"}, file_hash)
    with pytest.raises(CheckpointError, match="cannot be read"):
        hashing.result()
