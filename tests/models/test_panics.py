"""A library in Rust that panics writes on file descriptor 2 by itself; none of that reaches the terminal."""

import json
import os
import threading
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from evovlm.engines._loading import load_reader
from evovlm.engines.prompts import tokenize
from evovlm.merging.check._tokenizers import check_tokenizer
from evovlm.models.open_model import OpenModel, open_model
from evovlm.models.panics import is_panic, without_reports
from evovlm.system.errors import CheckpointError
from tests.cli.model_files import copy_model

# Each makes tokenizers panic, the first while it reads the file and the second while it reads a text.
UNREADABLE = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
TEMPLATE = [{"SpecialToken": {"id": "Q", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
FAILING = {"post_processor": {"type": "TemplateProcessing", "single": TEMPLATE, "pair": TEMPLATE, "special_tokens": {}}}


def broken(folder: Path, **values: object) -> Path:
    copy_model("ja", folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    return folder


def opened(model: str) -> OpenModel:
    return open_model("one", model, None, Path())


def test_a_panic_is_reported_outside_the_block_and_not_inside(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = broken(tmp_path / "bad", **UNREADABLE) / "tokenizer.json"

    def panic() -> None:
        with pytest.raises(BaseException, match="Precompiled") as raised:
            Tokenizer.from_file(str(path))
        assert is_panic(raised.value)

    panic()
    assert "panicked at" in capfd.readouterr().err
    with without_reports():
        os.write(2, b"before\n")
        panic()
        os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_blocks_in_two_threads_end_in_any_order(capfd: pytest.CaptureFixture[str]):
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        with without_reports():
            begun.set()
            ended.wait()

    thread = threading.Thread(target=other)
    with without_reports():
        thread.start()
        begun.wait()
        os.write(2, b"one\n")
    assert capfd.readouterr().err == ""
    ended.set()
    thread.join()
    os.write(2, b"two\n")
    assert capfd.readouterr().err == "one\ntwo\n"


def test_a_tokenizer_that_panics_gives_one_sentence_wherever_it_is_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(CheckpointError, match=r"unreadable: transformers cannot load it \(PanicException: Precompiled"):
        load_reader(broken(tmp_path / "unreadable", **UNREADABLE))
    _, tokenizer, _ = load_reader(broken(tmp_path / "failing", **FAILING))
    with pytest.raises(CheckpointError, match=r"failing: its tokenizer fails \(PanicException: no entry"):
        tokenize(tokenizer, "one")
    owner = opened("zoo:math")
    for name in ("unreadable", "failing"):
        list(check_tokenizer(opened(str(tmp_path / name)), owner))
    assert capfd.readouterr().err == ""


def test_padding_that_a_file_asks_for_takes_no_memory_when_tokenizers_are_compared(tmp_path: Path):
    padding = {
        **{"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
    }
    folder = broken(tmp_path / "bad", padding=padding)
    list(check_tokenizer(opened(str(folder)), opened("zoo:math")))  # would end the process
