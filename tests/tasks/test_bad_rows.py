"""Data files hold anything: the commands answer with a score, or with a sentence that names file and line."""

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evovlm.recipe.limits import MOST_MADE_ITEMS
from evovlm.system.errors import DataError
from evovlm.tasks import Options, load_task
from evovlm.tasks._json_rows import MOST_ROW
from evovlm.tasks.records import MOST_TEXT, each_row, read_rows
from tests.command import bench


def assert_refused(folder: Path, name: str, content: bytes, place: str) -> str:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_task("custom-maths", Options(path=folder / name)).items("test", None, 0)
    message = str(caught.value)
    assert message.startswith(f"{folder / name}{place}"), message
    assert len(message) < 1000
    return message


def row(**cells: Any) -> bytes:
    return json.dumps({"question": "q", "reference": "1"} | cells).encode() + b"\n"


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        (b'{"question": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", ":2"),
        (b'{"question": ' + b"[" * 200 + b"]" * 200 + b"}", ":2"),
        (row(question="\ud800"), ":2"),
        (row(note={"a": ["\udfff"]}), ":2"),
        (row(question="a\0b"), ":2"),
        (b'{"question": "a\0b", "reference": "1"}', ":2:16"),
        (b'{"question": "\xff", "reference": "1"}', ":2:15"),
        (b'{"question": "q", "reference": Infinity}', ":2"),
        (b'{"question": "q", "reference": 1e400}', ":2"),
        (b'{"question": "q", "reference": NaN}', ":2"),
        (b'{"question": "q", "question": "r", "reference": 1}', ":2"),
        (b'{"question": "q", "reference": ' + b"9" * 5000 + b"}", ":2"),
        (row(reference="9" * 200), ":2"),
        (row(reference="1e999999999"), ":2"),
        (row(reference="none"), ":2"),
        (row(reference=True), ":2"),
        (row(question=["q"], reference={"a": 1}), ":2"),
        (row(split=["test"]), ":2"),
        (row(id={"a": 1}), ":2"),
        (row(skill=[1]), ":2"),
        (row(image="x" * 5000), ":2"),
        (row(image="a\ufffd/../b"), ":2"),
        (row(image={"bytes": 5}), ":2"),
        (row(question="q" * (MOST_TEXT + 1)), ":2"),
        (row(reference=["1" * 60_000] * 5), ":2"),
        (b"[]", ":2"),
        (b"{", ":2:2"),
        (b'"' + b"x" * MOST_ROW + b'"', ":2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes, place: str):
    assert_refused(tmp_path, "rows.jsonl", row() + bad, place)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'[{"question": "q",\n "reference": }]', ":2:15"),
        (b'[{"question": "q", "reference": "1"}\n {"question"', ":2:2"),
        (b'[{"question": "q", "reference": "1"}', ":1:37"),
        (b'[{"question": "q", "reference": "1"}] x', ":1:39"),
        (b'[\n{"question": "q", "reference": "\xff"}]', ":2:33"),
        (b"[1]", ":1:2"),
        (b'["' + b"x" * (2 * MOST_ROW) + b'"]', ":1:2"),
        (b"[" * 10_000, ":1:2"),
        (b'[{"question": "q", "a": 1, "a": 2}]', ":1:2"),
        (b'[{"question": "\\ud800", "reference": "1"}]', ":1:2"),
    ],
)
def test_a_mistake_in_a_list_is_named_by_line_and_column(tmp_path: Path, content: bytes, place: str):
    assert_refused(tmp_path, "rows.json", content, place)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("rows.csv", b"question,reference\nq,1\n" + b"x" * 200_000 + b",1\n", ":3"),
        ("rows.csv", b'question,reference\nq,1\n"q,1\n', ":3"),
        ("rows.csv", b"question,question\nq,1\n", ":1"),
        ("rows.csv", b"question,reference\nq\0,1\n", ":2"),
        ("rows.csv", b'question,references\nq,"[""\\ud800""]"\n', ":2"),
        ("rows.csv", b"question,references\nq," + b"[" * 5000 + b"\n", ":2"),
        ("rows.csv", "question,reference\nq,1\n".encode("utf-16"), ": "),
        ("rows.tsv", b"question\tquestion\nq\t1\n", ":1"),
        ("rows.tsv", b"q\t1\nq\xff\t1\n", ":2:2"),
    ],
)
def test_a_bad_cell_of_a_table_is_named(tmp_path: Path, name: str, content: bytes, place: str):
    assert_refused(tmp_path, name, content, place)


def test_an_empty_file_has_no_items(tmp_path: Path):
    for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.tsv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match="no items"):
            load_task("custom-maths", Options(path=tmp_path / name)).items("test", None, 0)


def test_only_regular_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl").mkdir()
    for name, kind in (("pipe", "pipe"), ("zero", "device"), ("folder", "folder")):
        with pytest.raises(DataError, match=rf"{name}\.jsonl.*{kind}"):
            read_rows(tmp_path / f"{name}.jsonl")
    (tmp_path / "real.jsonl").write_bytes(row())
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert len(read_rows(tmp_path / "link.jsonl")) == 1


def test_a_file_of_many_rows_takes_the_memory_of_one(tmp_path: Path):
    line = row(note="x" * 1000)
    (tmp_path / "rows.jsonl").write_bytes(line * 2_000)
    (tmp_path / "rows.json").write_bytes(b"[" + b",".join([line] * 2_000) + b"]")
    (tmp_path / "rows.csv").write_bytes(b"question,reference\n" + b"q,1\n" * 20_000)
    for name, count in (("rows.jsonl", 2_000), ("rows.json", 2_000), ("rows.csv", 20_000)):
        tracemalloc.start()
        assert sum(1 for _ in each_row(tmp_path / name)) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.7e6, name


def test_few_items_of_a_large_file_take_little_memory_and_are_the_same_ones(tmp_path: Path):
    rows = [{"question": f"{number}?", "reference": "1", "note": "x" * 1000} for number in range(3_000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = load_task("custom-maths", Options(tmp_path / "rows.jsonl"))
    whole = task.items("search", None, 0)
    tracemalloc.start()
    few = task.items("search", 10, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7e6
    drawn = sorted(np.random.default_rng(0).permutation(3_000)[:10])
    assert few == [whole[place] for place in drawn]


def test_a_picture_that_is_far_too_large_a_file_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(2**36)
    (tmp_path / "rows.jsonl").write_text('{"question": "?", "reference": "a", "image": "big.png"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*: its image big\.png has 68,719,476,736 bytes; at most"):
        load_task("custom-vqa", Options(tmp_path / "rows.jsonl")).items("test", None, 0)


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "rows.jsonl").open("wb") as file:
        file.truncate(2**36)
    began = time.process_time()
    with pytest.raises(DataError, match=r"rows\.jsonl:1: a line of more than 4,194,304 bytes"):
        read_rows(tmp_path / "rows.jsonl")
    assert time.process_time() - began < 2


def test_rows_between_blank_lines_and_behind_a_mark_are_found(tmp_path: Path):
    rows = b"\xef\xbb\xbf\r\n" + row() + b"\r\n\n" + row(id="7")
    (tmp_path / "rows.jsonl").write_bytes(rows)
    assert [found.where.rpartition(":")[2] for found in each_row(tmp_path / "rows.jsonl")] == ["2", "5"]
    (tmp_path / "rows.json").write_bytes(b"\xef\xbb\xbf \n[" + b"\n,".join([row()] * 3) + b"]\n")
    assert len(read_rows(tmp_path / "rows.json")) == 3


@pytest.mark.parametrize("column", ["image", "file_name"])
def test_an_empty_image_is_refused_and_not_asked_blind(tmp_path: Path, column: str):
    rows = row(image="") if column == "image" else row(file_name="")
    (tmp_path / "rows.jsonl").write_bytes(rows)
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: {column} is empty; give a path, or leave `{column}` out"):
        opened(tmp_path / "rows.jsonl")
    # In a table there is no other way to say that a row has none.
    (tmp_path / "rows.csv").write_text(f"question,reference,{column}\nq,1,\n", encoding="utf-8")
    assert opened(tmp_path / "rows.csv") == []


def opened(path: Path) -> list[Image.Image]:
    items = load_task("custom-vqa", Options(path=path)).items("test", None, 0)
    return [item.image() for item in items if item.image is not None]


def test_what_is_no_image_is_refused_with_its_row(tmp_path: Path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "drawn.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("cut.png", "text.png", "drawn.png", "pipe.png"):
        (tmp_path / "rows.jsonl").write_bytes(row(image=name))
        with pytest.raises(DataError, match=rf"rows\.jsonl:1: item .*{name}"):
            opened(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("name", ["zoo-maths", "zoo-vqa", "zoo-medium-wild"])
def test_more_generated_items_than_the_limit_are_refused_at_once(name: str):
    with pytest.raises(DataError, match=f"{MOST_MADE_ITEMS:,}"):
        load_task(name).items("search", MOST_MADE_ITEMS + 1, 0)


def test_a_prediction_that_cannot_be_scored_is_named_by_its_line(tmp_path: Path):
    content = (
        json.dumps({"prediction": "2", "reference": "1"}) + "\n" + json.dumps({"prediction": "2", "reference": "x"})
    )
    (tmp_path / "rows.jsonl").write_text(content)
    done = bench("score", "custom-maths", "--predictions", "rows.jsonl", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: rows.jsonl:2: ")


def test_repeated_names_among_very_many_are_found_at_once(tmp_path: Path):
    names = [f"column {number}" for number in range(100_000)]
    began = time.process_time()
    header = ",".join([*names, "column 99999"]).encode()
    assert "two columns are called 'column 99999'" in assert_refused(tmp_path, "a.csv", header + b"\n1,2\n", ":1")
    cells = ",".join(f'"{name}": 1' for name in [*names, "column 99999"]).encode()
    assert "the key `column 99999` occurs twice" in assert_refused(tmp_path, "a.jsonl", b"{" + cells + b"}\n", ":1")
    assert time.process_time() - began < 3
