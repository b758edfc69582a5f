"""Whatever stands in a file of questions or answers: a score, or a sentence that names the file. Through the entry."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.hostile import assert_answered, bounded, warm_up

pytestmark = pytest.mark.examples

CHARACTERS = st.characters(codec=None)  # all of them, halves of surrogate pairs too
TEXTS = st.text(CHARACTERS, max_size=30) | st.sampled_from(
    [
        *(
            "1e999999999",
            "9" * 5000,
            "1,1," * 2000,
            "ー" * 3000,
            "答えは",
            "\\boxed{",
            "１、２００円",
            "nan",
            "[",
            "\0",
        ),
        *("", "\x1b[31m", "[/red]", "rows.json", "/dev/zero", "pipe.png"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
COLUMNS = st.sampled_from(
    ["id", "question", "prediction", "answer", "reference", "references", "split", "image", "skill"]
)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={"question": VALUES, "reference": VALUES, "prediction": VALUES}).flatmap(
        lambda known: st.dictionaries(COLUMNS | TEXTS, VALUES, max_size=4).map(lambda more: known | more)
    ),
    max_size=4,
)
SCORE = ("bench", "score", "{task}", "--predictions", "{file}")
# Scoring needs no model. Few examples ask one, for a row is read and refused in the same way.
COMMANDS = st.sampled_from(
    [SCORE] * 12
    + [("bench", "overlap", "{task}@{file}:search", "{task}@{file}:test")] * 3
    + [("evaluate", "zoo:vlm", "--data", "{task}@{file}:test", "--items", "1")]
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, once libraries and a model are loaded."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "sound.jsonl").write_text('{"question": "q", "reference": "1", "prediction": "1"}\n', encoding="utf-8")
    score = [part.format(task="custom-maths", file="sound.jsonl") for part in SCORE]
    warm_up(score, ("evaluate", "zoo:vlm", "--data", "custom-vqa@sound.jsonl:test", "--items", "1"), folder=folder)
    return folder


@st.composite
def json_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of rows whose cells are of any type: its ending and its content."""
    rows: list[dict[str, Any]] = draw(ROWS)
    if draw(st.booleans()):
        return "json", json.dumps(rows).encode()
    lines = "\n".join(json.dumps(found, ensure_ascii=bool(number % 2)) for number, found in enumerate(rows))
    return "jsonl", lines.encode("utf-8", "surrogatepass")


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """A CSV or TSV whose cells are any text, and whose rows are of any length."""
    out = io.StringIO()
    rows = draw(st.lists(st.lists(TEXTS, max_size=4), max_size=4))
    csv.writer(out, escapechar="\\").writerows([["prediction", "reference", "question"], *rows])
    ending = draw(st.sampled_from(["csv", "tsv"]))
    text = out.getvalue() if ending == "csv" else out.getvalue().replace(",", "\t")
    return ending, text.encode("utf-8", "surrogatepass")


@st.composite
def any_bytes(draw: st.DrawFn) -> tuple[str, bytes]:
    """Anything, called a file of rows."""
    return draw(st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet"])), draw(st.binary(max_size=200))


@st.composite
def parquet_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A parquet file in which some bytes are others."""
    out = io.BytesIO()
    table = pyarrow.Table.from_pylist([{"question": "6 + 6", "prediction": "答えは12", "reference": "12"}] * 5)
    pyarrow.parquet.write_table(table, out, compression=draw(st.sampled_from(["none", "snappy"])))
    content = bytearray(out.getvalue())
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return "parquet", bytes(content)


def assert_rows_answered(place: Path, file: tuple[str, bytes], task: str, command: tuple[str, ...]) -> None:
    """The command ends with a result, or refuses the file in a sentence that names it."""
    ending, content = file
    name = f"rows.{ending}"
    (place / name).write_bytes(content)
    words = [part.format(task=task, file=name) for part in command]
    codes = (0, 1, 2) if "overlap" in words else (0, 2)  # 1: it has found some
    done = assert_answered(*words, folder=place, codes=codes)
    assert "\x1b" not in done.stdout + done.stderr
    if done.returncode == 2:
        told = re.search(r"^error: (.*)", done.stderr, re.MULTILINE | re.DOTALL)
        assert told is not None
        assert name in told[1], done.stderr
        assert len(told[1]) < 1500, done.stderr
        assert "\n" not in told[1].rstrip("\n"), done.stderr


TASKS = st.sampled_from(["custom-maths", "custom-vqa"])


@given(file=json_files() | tables(), task=TASKS, command=COMMANDS)
@bounded()
def test_any_rows_are_answered(file: tuple[str, bytes], task: str, command: tuple[str, ...], place: Path):
    assert_rows_answered(place, file, task, command)


@given(file=any_bytes() | parquet_files(), task=TASKS)
@bounded()
def test_any_data_file_is_answered(file: tuple[str, bytes], task: str, place: Path):
    assert_rows_answered(place, file, task, SCORE)
