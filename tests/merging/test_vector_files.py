"""Prepared task vectors in files: found again, made again when what they are made of changes or a file is damaged."""

import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm.merging.vector_files import Ask, VectorFiles
from evovlm.methods import METHODS, Operand, resolve_options
from evovlm.methods.draws import Draws
from evovlm.system.errors import StudyError
from tests.methods.merging import make_models

CPU = torch.device("cpu")


def ask(method: str = "tsv_m", **own: float) -> Ask:
    models = make_models((12, 8), 2, dtype=torch.bfloat16)
    return Ask("w", method, resolve_options(method, None, None, 1.0, 0.15, 0.01, own), models.base, models.sources)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def files(tmp_path: Path, told: list[str]) -> VectorFiles:
    return VectorFiles(tmp_path / "vectors", told.append)


def again(files: VectorFiles, told: list[str]) -> VectorFiles:
    """The same folder, as another process sees it."""
    return VectorFiles(files.folder, told.append)


def same(found: list[torch.Tensor] | None, expected: list[torch.Tensor]) -> bool:
    return found is not None and all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("method", ["tsv_m", "iso_c"])
def test_what_was_made_is_found_again_to_the_bit(files: VectorFiles, told: list[str], method: str):
    assert files.find(ask(method)) is None
    made = files.make(ask(method), CPU)
    assert same(made, ask(method).made(CPU))
    assert same(again(files, told).find(ask(method)), made)
    assert told == []


def test_equal_vectors_of_all_sources_are_written_once(files: VectorFiles):
    sizes = {}
    for method in ("tsv_m", "iso_c"):
        files.make(ask(method), CPU)
        sizes[method] = (files.folder / f"{method}.w.safetensors").stat().st_size
    assert sizes["tsv_m"] - sizes["iso_c"] == pytest.approx(12 * 8 * 2, abs=128)


def changed_tensor(one: Ask) -> Ask:
    other = one.sources[1].clone()
    other[3, 4] += 0.01
    return replace(one, sources=(one.sources[0], other))


CHANGES = {
    "a source": changed_tensor,
    "the order of sources": lambda one: replace(one, sources=one.sources[::-1]),
    "the base": lambda one: replace(one, base=one.base + 1),
    "a dtype": lambda one: replace(one, sources=(one.sources[0], one.sources[1].float())),
    "an option": lambda one: replace(one, options=ask(rank_share=0.25).options),
    "whether it is averaged": lambda one: replace(one, options=replace(one.options, averaged=True)),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_file_of_something_else_is_not_used(files: VectorFiles, told: list[str], change: str):
    files.make(ask(), CPU)
    other = CHANGES[change](ask())
    assert again(files, told).find(other) is None
    assert same(again(files, told).get(other), other.made(CPU))
    assert told == [], "it is no damage"


@pytest.mark.parametrize("damage", ["a value", "cut short", "no file of tensors", "empty"])
def test_a_damaged_file_is_told_and_made_again(files: VectorFiles, told: list[str], damage: str):
    made = [vector.clone() for vector in files.make(ask(), CPU)]
    path = files.folder / "tsv_m.w.safetensors"
    content = path.read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    damaged = {"a value": flipped, "cut short": content[:-9], "no file of tensors": b"x" * 90, "empty": b""}
    path.write_bytes(damaged[damage])
    assert same(again(files, told).get(ask()), made)
    assert [line.startswith(f"{path}: damaged (") for line in told] == [True]
    assert same(again(files, told).find(ask()), made)
    assert len(told) == 1, "the new file is whole"


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a file's header, and none of its values."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    edited = json.dumps(header).encode()
    path.write_bytes(len(edited).to_bytes(8, "little") + edited + content[8 + length :])


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "dtype": lambda header: header["0"].update(dtype="F16"),
    "shape, flat": lambda header: header["1"].update(shape=[96]),
    "shape, turned": lambda header: header["1"].update(shape=[8, 12]),
    "places, turned": lambda header: header["__metadata__"].update(places="1 0"),
    "places, negative": lambda header: header["__metadata__"].update(places="-2 -1"),
    "places, written otherwise": lambda header: header["__metadata__"].update(places="0 +1"),
    "places, of too few": lambda header: header["__metadata__"].update(places="0 0"),
}


@pytest.mark.parametrize("edit", sorted(HEADERS))
def test_what_a_files_header_says_is_checked_as_its_values_are(files: VectorFiles, told: list[str], edit: str):
    made = [vector.clone() for vector in files.make(ask(), CPU)]
    path = files.folder / "tsv_m.w.safetensors"
    _edit(path, HEADERS[edit])
    assert same(again(files, told).get(ask()), made)
    assert [line.startswith(f"{path}: damaged (") for line in told] == [True]


def test_operands_with_kept_vectors_get_them_and_merge_as_without(files: VectorFiles):
    one = ask()
    operands = [Operand(tensor, 0.5, 1.0, Draws(0, "a", "w")) for tensor in one.sources]
    filled = files.filled(one, operands)
    assert same(METHODS["tsv_m"].rule.vectors(one.base, filled, one.options), one.made(CPU))  # type: ignore[union-attr]
    before = [operand.tables.prepared for operand in filled]
    (files.folder / "tsv_m.w.safetensors").unlink()
    assert [operand.tables.prepared for operand in files.filled(one, filled)] == before


PLACES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a file": ("vectors", lambda path: path.write_text("", encoding="utf-8"), "a file, where the folder"),
    "a pipe": ("vectors", os.mkfifo, "a pipe, where the folder"),
    "a dangling link": ("vectors", lambda path: path.symlink_to("none"), "a link that leads nowhere, where the folder"),
    "a circle": ("vectors", lambda path: path.symlink_to(path), "a link that leads nowhere, where the folder"),
    "a folder": ("vectors/tsv_m.w.safetensors", lambda path: path.mkdir(parents=True), "a folder, where a file"),
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_what_stands_where_vectors_are_to_be_is_named(tmp_path: Path, place: str):
    where, put, kind = PLACES[place]
    put(tmp_path / where)
    files = VectorFiles(tmp_path / "vectors")
    said = f"{where}: is {kind} of task vectors is to be; remove it"
    with pytest.raises(StudyError, match=said):
        files.refuse_blocked("tsv_m", ["w"])
    with pytest.raises(StudyError, match=said):
        files.get(ask(), CPU)


def test_a_limit_of_file_size_is_not_told_as_a_full_disk(files: VectorFiles):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StudyError, match=r"tsv_m\.w\.safetensors: cannot be written .*: raise `ulimit -f`") as told:
            files.make(ask(), CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free space" not in str(told.value)


def test_files_of_other_methods_are_removed(files: VectorFiles):
    for method in ("tsv_m", "iso_c"):
        files.make(ask(method), CPU)
    files.remove_all_but("iso_c")
    assert [path.name for path in files.folder.iterdir()] == ["iso_c.w.safetensors"]
    (files.folder / "ties.w.safetensors").mkdir()
    files.remove_all_but("iso_c")
    (files.folder / "ties.w.safetensors").rmdir()
    files.remove_all_but("ties")
    assert not files.folder.exists()
