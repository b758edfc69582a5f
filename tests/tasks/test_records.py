import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from evovlm.system.errors import DataError
from evovlm.tasks.records import Row, read_rows


def cells(path: Path, **more: Any) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in read_rows(path, **more)]


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
    assert cells(written(tmp_path, name)) == ROWS


def test_a_tsv_has_numbered_columns(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("犬は\t1\r\n猫は\t2\n", encoding="utf-8")
    assert cells(path) == [{"0": "犬は", "1": "1"}, {"0": "猫は", "1": "2"}]


def test_a_tsv_whose_first_line_names_a_question_has_a_header(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffid\tquestion\treference\n1\t犬は\t2\n", encoding="utf-8")
    assert cells(path) == [{"id": "1", "question": "犬は", "reference": "2"}]
    path.write_text("question\treference\n犬は\t2\t3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.tsv:2: 3 cells under 2"):
        read_rows(path)


def test_of_parquet_only_the_wanted_columns_are_read(tmp_path: Path):
    assert cells(written(tmp_path, "a.parquet"), columns=["answer", "absent"]) == [{"answer": "1"}, {"answer": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"question": "x"}\n{"question"\n', "a.jsonl:2"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1"),
        ("a.json", b"[1]", "list of objects"),
        ("a.json", b"[", "not valid JSON"),
        ("a.jsonl", b"\xff\xfe", "UTF-8"),
        ("a.parquet", b"PAR1 cut off", "parquet"),
        ("a.csv", b"question,reference\nwhat, then?,1\n", r"a\.csv:2: more cells"),
        ("a.xlsx", b"", "unknown file type"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, told: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_rows(tmp_path / name)


def test_a_missing_column_is_told_with_those_there_are():
    with pytest.raises(DataError, match=r"question.*\['frage'\]"):
        Row({"frage": 1}, "a:1").value("question")


def test_a_row_knows_its_line_whatever_stands_above_it(tmp_path: Path):
    for name, content, place in (
        ("a.jsonl", '\n{"a": "x"}\n\n{"a": "y"}\n', ":4"),
        ("a.csv", 'a\n"x\nx"\ny\n', ":4"),
        ("a.json", '[{"a": "x"}, {"a": "y"}]', ": row 2"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_rows(tmp_path / name)[-1].where == f"{tmp_path / name}{place}"


def test_empty_cells_are_missing_and_zero_is_not():
    row = Row({"a": None, "b": "", "c": float("nan"), "d": 0}, "x:1")
    assert row.get("a", "b", "c") is None
    assert row.text("a", "b", "c", "d") == "0"


def test_a_list_of_texts_may_stand_in_a_cell_of_a_csv(tmp_path: Path):
    assert Row({"a": '["犬", "猫"]'}, "x.csv:2").texts("a") == ("犬", "猫")
    assert Row({"a": '["犬", "猫"]'}, "x.jsonl:2").texts("a") == ('["犬", "猫"]',)
    assert Row({"a": "[犬]"}, "x.csv:2").texts("a") == ("[犬]",)
    for cell in ([], [""], ["犬", None]):
        with pytest.raises(DataError, match="x:1: an empty a"):
            Row({"a": cell}, "x:1").texts("a")


def test_what_is_no_text_or_number_is_told_with_its_kind():
    with pytest.raises(DataError, match="x:1: a is a dict"):
        Row({"a": {"b": 1}}, "x:1").text("a")
    with pytest.raises(DataError, match=r"'1\.5'; give a whole number"):
        Row({"a": "1.5"}, "x:1").whole("a")


def test_a_table_without_a_header_is_named_so_and_its_columns_are_counted_from_one(tmp_path: Path):
    path = tmp_path / "bare.tsv"
    path.write_text("one\n", encoding="utf-8")
    (row,) = read_rows(path)
    with pytest.raises(
        DataError, match=r"bare.tsv:1: no value for references or column 2; the file has 1 columns and no"
    ):
        row.value("references", "1")
