from pathlib import Path

import pytest

from evovlm.system.errors import DataError
from evovlm.tasks import Options, load_task, parse_split

ROW = (
    '{"q_id": %d, "question": "電子回路基板は？", "choice0": "掲示板", "choice1": "10分", "choice2": "マザーボード",'
    ' "choice3": "机", "choice4": "板", "label": %d}\n'
)


def test_the_real_file_is_read_whole(shared_data: Path):
    task, split = parse_split(f"jcommonsenseqa@{shared_data / 'jcommonsenseqa'}:test")
    items = task.items(split, None, 0)
    assert len(items) == 1119
    assert items[0].references == ("マザーボード", "2")
    assert "2. マザーボード" in items[0].question


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("2", 100.0),
        ("２。", 100.0),
        ("マザーボード", 100.0),
        ("「マザーボード」", 100.0),
        ("1", 0.0),
        ("", 0.0),
        ("机", 0.0),
    ],
)
def test_number_and_word_both_answer(tmp_path: Path, answer: str, score: float):
    (tmp_path / "valid-v1.3.json").write_text(ROW % (1, 2), encoding="utf-8")
    task = load_task("jcommonsenseqa", Options(path=tmp_path))
    assert task.score(task.items("test", None, 0)[0], answer).score == score


def test_shots_come_from_the_training_file(tmp_path: Path):
    (tmp_path / "train-v1.3.json").write_text("".join(ROW % (row, row % 5) for row in range(30)), encoding="utf-8")
    (tmp_path / "valid-v1.3.json").write_text(ROW % (99, 2), encoding="utf-8")
    task = load_task("jcommonsenseqa", Options(path=tmp_path, preset="few-shot"))
    assert task.generation.template.count("### 答え: ") == 3
    assert task.generation.template.endswith("### 答え:")


def test_a_label_without_a_choice_is_refused(tmp_path: Path):
    (tmp_path / "valid-v1.3.json").write_text(ROW % (1, 5), encoding="utf-8")
    with pytest.raises(DataError, match="label 5"):
        load_task("jcommonsenseqa", Options(path=tmp_path)).items("test", None, 0)
