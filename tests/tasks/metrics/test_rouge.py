import json
from itertools import pairwise
from pathlib import Path

import emoji
import fugashi
import neologdn
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from evovlm.system.errors import MachineFault
from evovlm.tasks.metrics import rouge
from evovlm.tasks.metrics.rouge import MecabTokenizer, exact_match, rouge_l, rouge_l_ja


def test_the_same_words_score_one_hundred():
    assert rouge_l("芝生の上", ["芝生の上"]) == 100.0


def test_two_of_three_words_in_order_score_their_f_measure():
    # Tokens 赤い / 犬 against 赤い / 犬 / です: precision 1, recall 2/3, F 0.8.
    assert MecabTokenizer().tokenize("赤い犬です") == ["赤い", "犬", "です"]
    assert rouge_l("赤い犬", ["赤い犬です"]) == pytest.approx(80.0)


def test_the_best_reference_counts():
    assert rouge_l("猫", ["犬", "猫"]) == 100.0


def test_an_empty_answer_scores_nothing():
    assert rouge_l("", ["犬"]) == 0.0


def test_no_reference_is_refused():
    with pytest.raises(ValueError, match="reference"):
        rouge_l_ja("犬", [])


def test_an_english_answer_to_a_japanese_reference_counts_as_empty():
    reference = "NIKE の 靴"
    assert rouge_l("NIKE", [reference]) > 0
    assert rouge_l_ja("NIKE", [reference]) == 0.0


def test_an_english_reference_may_be_answered_in_english():
    assert rouge_l_ja("NIKE", ["NIKE", "ナイキ"]) == 100.0


def test_another_detector_may_judge_the_language():
    assert rouge_l_ja("NIKE", ["NIKEの靴"], japanese=lambda text: True) > 0


def test_exact_match_looks_past_widths_and_spaces():
    assert exact_match("１２ 個", ["12個"])
    assert not exact_match("12", ["12個"])


JAPANESE = st.text(alphabet="犬猫が赤い青の上下にいます12 ABc、。", max_size=12)


@given(JAPANESE, JAPANESE)
def test_the_score_is_a_share_the_same_both_ways_and_never_raised_by_the_rule(one: str, other: str):
    score = rouge_l(one, [other])
    assert 0.0 <= score <= 100.0
    assert score == pytest.approx(rouge_l(other, [one]))
    assert rouge_l_ja(one, [other]) in (0.0, score)
    assert rouge_l(one, [other, one]) == (100.0 if MecabTokenizer().tokenize(one) else 0.0)


class Plain:
    """The paper's tokenizer by its description, without our code."""

    def __init__(self) -> None:
        self.tagger = fugashi.Tagger("-Owakati")

    def tokenize(self, text: str) -> list[str]:
        kept = "".join(c for c in text if not emoji.is_emoji(c))
        return self.tagger.parse(" ".join(neologdn.normalize(kept).split())).split()


def test_scores_agree_with_the_libraries_called_directly(shared_data: Path):
    path = shared_data / "lookvqa" / "val.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:1001]]
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Plain())
    scores = []
    for row, following in pairwise(rows):
        # Real pairs with part of their words in common: an answer's question, and another answer joined to it.
        for prediction in (row["question"], f"{row['answer']}と{following['answer']}"):
            expected = 100 * scorer.score(row["answer"], prediction)["rougeL"].fmeasure
            assert rouge_l(prediction, [row["answer"]]) == expected
            scores.append(expected)
    assert len(scores) == 2000
    assert sum(0 < score < 100 for score in scores) > 900


def test_a_dictionary_that_mecab_cannot_open_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rouge.unidic_lite, "DICDIR", str(tmp_path))
    with pytest.raises(MachineFault, match="MeCab cannot open this dictionary"):
        MecabTokenizer()
