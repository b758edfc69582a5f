import json
from pathlib import Path

import pytest

from evovlm.tasks.metrics.language import is_japanese, japanese_probability


@pytest.mark.parametrize(
    "text", ["赤いボールです。", "はい", "野球", "Tシャツ", "3個", "ﾊﾟｿｺﾝ", "トヨタのAE86", "返還", "没収"]
)
def test_japanese_reads_as_japanese(text: str):
    assert is_japanese(text)


@pytest.mark.parametrize("text", ["a red ball", "NIKE", "18", "", "。", "북한", "красный", "the cat is called タマ"])
def test_other_text_does_not(text: str):
    assert not is_japanese(text)


@pytest.mark.parametrize("text", ["这是一只猫", "你好吗", "那是一隻黑色的貓，牠們很可愛", "黑猫", "图片中有一个人"])
def test_chinese_does_not(text: str):
    assert not is_japanese(text)


def test_a_latin_word_weighs_as_a_quarter_of_its_letters():
    assert japanese_probability("いぬdogs") == pytest.approx(2 / 3)


def test_kanji_alone_are_doubted_and_more_so_when_they_run_on():
    assert 0.5 < japanese_probability("東京") < 1
    assert not is_japanese("天地玄黄宇宙洪荒日月盈昃辰宿列張寒来暑往秋収冬蔵")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def test_japanese_sentences_are_told(shared_data: Path):
    sentences = [line for name in ("dev", "test") for line in lines(shared_data / "ud_ja_gsd" / f"{name}.txt")]
    assert [sentence for sentence in sentences if not is_japanese(sentence)] == ["Ciao!"]


def test_english_problems_are_told(shared_data: Path):
    rows = [json.loads(line) for line in lines(shared_data / "gsm8k" / "test.jsonl")]
    assert len(rows) == 1319
    assert not any(is_japanese(row["question"]) or is_japanese(row["answer"]) for row in rows)


def test_short_japanese_answers_are_told_but_for_numbers_and_names(shared_data: Path):
    files = [shared_data / "lookvqa" / name for name in ("val.jsonl", "train_3000.jsonl")]
    answers = [json.loads(line)["answer"] for path in files for line in lines(path)]
    missed = [answer for answer in answers if not is_japanese(answer)]
    assert len(missed) <= 0.01 * len(answers)
    assert {answer for answer in missed if not answer.isascii()} == {"×", "黑"}
