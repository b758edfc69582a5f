"""What is no regular file in a model's folder, has no end or is larger than it may be, is refused at once."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evovlm.models.model_files import ASSETS
from tests.cli.model_files import RECIPE, copy_model
from tests.command import evovlm_here


def link_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # a socket's path may only have a hundred characters


KINDS: dict[str, Callable[[Path], object]] = {
    "it is a pipe": os.mkfifo,
    "it is a device": link_to("/dev/zero"),
    "it is a folder": Path.mkdir,
    "a link that leads nowhere": link_to("not-there"),
    "it is a socket": bind,
    "Too many levels of symbolic links": link_to("r.yaml/../loop"),
}
JSON = [name for name in ASSETS if name.endswith(".json") and name != "config.json"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a copy of the vision-language model and a recipe that merges it; a hang ends the test."""
    copy_model("vlm", tmp_path / "bad")
    (tmp_path / "r.yaml").write_text(RECIPE.format(kind="vlm"), encoding="utf-8")
    signal.alarm(60)
    yield tmp_path
    signal.alarm(0)


def refused(place: Path, *words: str) -> str:
    done = evovlm_here(*words, folder=place)
    assert done.returncode == 2, (words, done)
    assert "Traceback" not in done.stderr
    return done.stderr


ASKED = ("evaluate", "bad", "--data", "zoo-vqa:test", "--items", "1")
CHECKED = ("recipe", "check", "r.yaml")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_no_file_is_refused_under_every_name(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place / "bad")
    for name in [*ASSETS, "model.safetensors", "model.safetensors.index.json", "converted_from.json"]:
        if name == "converted_from.json" and "nowhere" in kind:
            continue  # as if there were none
        path = place / "bad" / name
        kept = path.rename(place / "kept") if path.exists() or path.is_symlink() else None
        if "levels" in kind:
            path.symlink_to(path.name)
        else:
            KINDS[kind](path)
        for words in (CHECKED, ASKED) if name in ("config.json", "tokenizer.json") else (CHECKED,):
            told = refused(place, *words)
            assert kind in told, (name, told)
            assert f"bad/{name}" in told
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if kept is not None:
            kept.rename(path)


def test_a_conversion_refuses_what_is_no_file(place: Path):
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "generation_config.json"):
        folder = place / f"to-convert-{name}"
        copy_model("ja", folder)
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"x")
        if name.endswith("index.json"):
            (folder / "pytorch_model.bin").unlink()
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert "it is a pipe" in refused(place, "convert", folder.name, "out")
        assert not (place / "out").exists()


@pytest.mark.parametrize("name", JSON)
def test_a_file_larger_than_its_kind_may_be_is_refused_unread(name: str, place: Path):
    with (place / "bad" / name).open("wb") as file:
        file.truncate(100 * 2**20)
    assert f"{name}: " in (told := refused(place, *CHECKED))
    assert "more than" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "more than 100 levels of lists and objects"),
        ('{"a":' * 500 + "1" + "}" * 500, "more than 100 levels of lists and objects"),
        ('{"image_token": NaN}', "`image_token` is NaN, which is no finite number"),
        ('{"a": {"b": [1, 1e999]}}', "`a.b.1` is 1e999, which is no finite number"),
        ('{"a": ' + "9" * 5000 + "}", "`a` is a number of 5,000 digits"),
        ('{"image_token": "a", "image_token": "b"}', "the key `image_token` occurs twice"),
        ('{"a": "\\ud800"}', "`a` holds half of a surrogate pair"),
        ("\xff\xfe{", "not valid JSON"),
        ('{"a"\n: tru}', "tokenizer_config.json:2:3: not valid JSON"),
    ],
)
def test_json_that_python_would_read_is_refused_with_its_key(text: str, told: str, place: Path):
    (place / "bad" / "tokenizer_config.json").write_text(text, encoding="utf-8")
    said = refused(place, *CHECKED)
    assert f"{place}/bad/tokenizer_config.json:" in said
    assert told in said


QUESTIONS = ("evaluate", "zoo:ja", "--data")
PLACES: dict[str, tuple[str, ...]] = {
    "r.yaml": ("merge", "r.yaml", "out"),
    "r.yml": ("evolve", "r.yml", "--out", "out", "--dry-run"),
    "s.yaml": ("bench", "run", "s.yaml", "--out", "out"),
    **{f"d.{kind}": (*QUESTIONS, f"custom-maths@d.{kind}:test") for kind in ("jsonl", "json", "csv", "tsv", "parquet")},
    "in/d.jsonl": (*QUESTIONS, "custom-maths@in:test"),
    "p.png": ("evaluate", "zoo:vlm", "--data", "custom-vqa@p.jsonl:test"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_no_file_is_refused_as_a_recipe_a_suite_data_or_a_picture(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    signal.alarm(60)
    (tmp_path / "p.jsonl").write_text('{"question": "?", "answer": "1", "image": "p.png"}\n', encoding="utf-8")
    (tmp_path / "in").mkdir()
    for name, words in PLACES.items():
        path = tmp_path / name
        monkeypatch.chdir(path.parent)
        if "levels" in kind:
            path.symlink_to(path.name)
        else:
            KINDS[kind](path)
        told = refused(tmp_path, *words)
        assert path.name in told or f"'*{path.suffix}'" in told, (name, told)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert not (tmp_path / "out").exists()
    signal.alarm(0)
