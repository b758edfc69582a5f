import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from evovlm.errors import DataError
from evovlm.tasks.records import field, read_rows

ROWS = [{"question": "犬は？", "answer": "1"}, {"question": "猫は、\u2028何匹", "answer": "2"}]


def written(folder: Path, name: str) -> Path:
    path = folder / name
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        text = {
            "a.jsonl": lines + "\n\n",
            "lines.json": lines,
            "a.json": json.dumps(ROWS),
            "a.csv": "\ufeffquestion,answer\n" + "\n".join(f'"{row["question"]}",{row["answer"]}' for row in ROWS),
        }[name]
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "lines.json", "a.json", "a.csv", "a.parquet"])
def test_one_table_reads_the_same_from_every_kind_of_file(tmp_path: Path, name: str):
    assert read_rows(written(tmp_path, name)) == ROWS


def test_a_tsv_has_numbered_columns(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("犬は\t1\r\n猫は\t2\n", encoding="utf-8")
    assert read_rows(path) == [{"0": "犬は", "1": "1"}, {"0": "猫は", "1": "2"}]


def test_of_parquet_only_the_wanted_columns_are_read(tmp_path: Path):
    assert read_rows(written(tmp_path, "a.parquet"), columns=["answer", "absent"]) == [{"answer": "1"}, {"answer": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"question": "x"}\n{"question"\n', "a.jsonl:2"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1"),
        ("a.json", b"[1]", "list of objects"),
        ("a.json", b"[", "no JSON"),
        ("a.jsonl", b"\xff\xfe", "UTF-8"),
        ("a.parquet", b"PAR1 cut off", "parquet"),
        ("a.xlsx", b"", "unknown kind"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, told: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_rows(tmp_path / name)


def test_a_missing_column_is_told_with_those_there_are():
    with pytest.raises(DataError, match=r"question.*\['frage'\]"):
        field({"frage": 1}, ("question",), "a:1")
