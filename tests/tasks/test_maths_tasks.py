import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from evovlm.system.errors import DataError
from evovlm.tasks import Item, Options, load_task, parse_split
from evovlm.tasks.protocol import Task

JA = "ステップごとに考えます。答えは{}です。"


def gsm8k(folder: Path, rows: int, **more: object) -> Path:
    path = folder / "gsm8k-ja.jsonl"
    lines = [json.dumps({"question": f"問題{row}", "answer": f"途中は3。\n#### {row}"} | more) for row in range(rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(task: Task) -> list[Item]:
    return [item for split in task.splits for item in task.items(split, None, 0)]


def test_the_real_mgsm_is_read_whole(shared_data: Path):
    task, split = parse_split(f"mgsm-ja@{shared_data / 'mgsm'}:test")
    items = task.items(split, None, 0)
    assert len(items) == 250
    assert items[0].references == ("18",)
    assert task.items(split, 20, 1) == [item for item in items if item in task.items(split, 20, 1)]
    assert task.items(split, 20, 1) != task.items(split, 20, 2)


def test_few_shot_puts_the_exemplars_before_the_question(shared_data: Path):
    template = load_task("mgsm-ja", Options(path=shared_data / "mgsm", preset="few-shot")).generation.template
    assert template.startswith("問題：ロジャーは")
    assert template.count("ステップごとの答え：") == 9
    assert template.endswith("\n\n問題：{question}\nステップごとの答え：")


def test_exemplars_are_read_from_python_source_without_running_it(tmp_path: Path):
    shots = {str(number): {"q": f"問題：{number}は？", "a": f"答えは{number}です。"} for number in range(8)}
    source = f"import sys\nsys.exit('run')\nMGSM_EXEMPLARS = {{'ja': {shots!r}}}\n"
    (tmp_path / "exemplars.py").write_text(source, encoding="utf-8")
    template = load_task("mgsm-ja", Options(path=tmp_path, preset="few-shot")).generation.template
    assert template.startswith("問題：0は？\n答えは0です。\n\n問題：1は？")


def test_mgsm_as_parquet_reads_like_its_own_files(tmp_path: Path, shared_data: Path):
    """The layout that the hub keeps: a folder a language, exemplars as its training split."""
    ours = load_task("mgsm-ja", Options(path=shared_data / "mgsm", preset="few-shot"))
    items = ours.items("test", None, 0)
    shots = json.loads((shared_data / "mgsm" / "exemplars_ja_en.json").read_text(encoding="utf-8"))["exemplars"]["ja"]
    tables = {
        "test": [{"question": i.question, "answer": None, "answer_number": i.references[0]} for i in items],
        "train": [{"question": shot["q"], "answer": shot["a"], "answer_number": 1} for shot in shots.values()],
    }
    (tmp_path / "ja").mkdir()
    for split, rows in tables.items():
        path = tmp_path / "ja" / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    theirs = load_task("mgsm-ja", Options(path=tmp_path, preset="few-shot"))
    assert theirs.items("test", None, 0) == items
    assert theirs.generation == ours.generation


def test_a_torn_mgsm_is_refused(tmp_path: Path):
    (tmp_path / "mgsm_ja.tsv").write_text("問題\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match="250"):
        load_task("mgsm-ja", Options(path=tmp_path)).items("test", None, 0)


def test_an_answer_in_japanese_with_the_right_number_is_worth_all_the_rest_stands_beside():
    item = Item("1", "?", ("1000",), None)
    compatible, corrected = (load_task("mgsm-ja", Options(scoring=name)) for name in ("compatible", "corrected"))
    assert compatible.score(item, JA.format("1,000")).score == 0.0
    assert corrected.score(item, JA.format("1,000")).score == 100.0
    assert corrected.score(item, "The answer is 1000").score == 0.0
    assert corrected.score(item, "The answer is 1000").beside == {
        "compatible": 100.0,
        "corrected": 100.0,
        "compatible_ja": 0.0,
        "corrected_ja": 0.0,
        "japanese": 0.0,
    }


@pytest.mark.parametrize(("rows", "first"), [(1319, 250), (1069, 0)])
def test_rows_of_mgsm_are_left_out_of_the_search_set(tmp_path: Path, rows: int, first: int):
    found = read(load_task("gsm8k-ja-search", Options(path=gsm8k(tmp_path, rows))))
    assert len(found) == 1069
    by_id = {item.id: item for item in found}
    assert min(by_id) == "gsm8k-test-0250"
    assert max(by_id) == "gsm8k-test-1318"
    assert by_id["gsm8k-test-0250"].question == f"問題{first}"


def test_search_validation_and_mgsm_share_no_problem(shared_data: Path):
    search = load_task("gsm8k-ja-search", Options(path=shared_data / "gsm8k"))
    splits = [{item.id for item in search.items(split, None, 0)} for split in search.splits]
    mgsm = {item.id for item in load_task("mgsm-ja", Options(path=shared_data / "mgsm")).items("test", None, 0)}
    assert not splits[0] & splits[1]
    assert not mgsm & (splits[0] | splits[1])
    assert len(splits[1]) > 150


def test_gsm8ks_answers_of_the_mgsm_rows_are_mgsms(shared_data: Path):
    """Row numbers are the same problems in both files: what leaving them out by row rests on."""
    mgsm = load_task("mgsm-ja", Options(path=shared_data / "mgsm"))
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for item, line in zip(mgsm.items("test", None, 0), lines, strict=False):
        assert mgsm.score(item, JA.format(json.loads(line)["answer"].split("####")[1].replace(",", ""))).exact


def test_a_file_whose_rows_are_unknown_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="index"):
        read(load_task("gsm8k-ja-search", Options(path=gsm8k(tmp_path, 300))))
    given = load_task("gsm8k-ja-search", Options(path=gsm8k(tmp_path, 1, index=260)))
    assert [item.id for item in given.items("search", None, 0)] == ["gsm8k-test-0260"]


def test_every_gold_answer_of_mgsm_scores_full_marks(shared_data: Path):
    task = load_task("mgsm-ja", Options(path=shared_data / "mgsm", scoring="corrected"))
    for item in task.items("test", None, 0):
        assert task.score(item, JA.format(f"{int(item.references[0].replace(',', '')):,}")).exact
