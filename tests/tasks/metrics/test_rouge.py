import json
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import emoji
import fugashi
import neologdn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from evovlm.system.errors import MachineFault
from evovlm.tasks.metrics import rouge
from evovlm.tasks.metrics.limits import MOST_CHARACTERS
from evovlm.tasks.metrics.rouge import exact_match, longest_common, pieces, rouge_l, rouge_l_ja, tokenize
from tests.parameters import slow_but


def test_the_same_words_score_one_hundred():
    assert rouge_l("芝生の上", ["芝生の上"]) == 100.0


def test_two_of_three_words_in_order_score_their_f_measure():
    # Tokens 赤い / 犬 against 赤い / 犬 / です: precision 1, recall 2/3, F 0.8.
    assert tokenize("赤い犬です") == ("赤い", "犬", "です")
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
    assert rouge_l(one, [other, one]) == (100.0 if tokenize(one) else 0.0)


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
    rouge._tagger.cache_clear()
    with pytest.raises(MachineFault, match="MeCab cannot open this dictionary"):
        rouge_l("犬がいます", ["猫がいます"])


TOKENS = st.lists(st.sampled_from("abcdef"), max_size=60)


class Given:
    """A tokenizer for texts that are tokens between spaces."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


@given(TOKENS, TOKENS)
@settings(max_examples=200, deadline=None)
def test_the_common_tokens_are_those_of_the_full_table(one: list[str], other: list[str]):
    recall = (
        rouge_scorer.RougeScorer(["rougeL"], tokenizer=Given()).score(" ".join(one), " ".join(other))["rougeL"].recall
    )
    assert longest_common(one, other) == round(recall * len(one))


@given(TOKENS, TOKENS)
@settings(max_examples=200, deadline=None)
def test_long_texts_score_as_the_library_would(one: list[str], other: list[str]):
    said, wanted = " ".join(one), " ".join(other)
    expected = (
        100.0 * rouge_scorer.RougeScorer(["rougeL"], tokenizer=rouge._Tokenizer()).score(wanted, said)["rougeL"][2]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rouge, "MOST_PAIRS", -1)
        assert rouge._rouge_l.__wrapped__(said, wanted) == expected


SENTENCES = "犬が赤い青の上にいます。猫は3匹、車は1台あります！ A dog sleeps. トラックはコンクリートの橋の下です。"


def test_a_text_of_normal_length_is_given_to_mecab_whole():
    text = (SENTENCES * 200)[: rouge.MOST_AT_ONCE]
    assert list(pieces(text)) == [text]


def test_pieces_of_a_long_text_end_with_a_sentence_and_give_the_same_words():
    text = SENTENCES * 250
    parts = list(pieces(text))
    assert len(parts) > 1
    assert "".join(parts) == text
    assert all(part[-1] in "。! " and len(part) <= rouge.MOST_AT_ONCE for part in parts)
    apart = [token for sentence in [SENTENCES] * 250 for token in tokenize(sentence)]
    assert list(tokenize(text)) == apart


ENDLESS = ("ー", "アイウ", "abc", "。", "\u0301\u0316", "한국", "\ufdfa", "12", "_", "\ud800", "の")


@pytest.mark.parametrize("letters", slow_but(ENDLESS, ("ー", "abc", "\ud800")))
def test_an_answer_without_end_is_scored_in_bounded_time_and_memory(letters: str):
    answer = letters * (400_000 // len(letters))
    tracemalloc.start()
    began = time.process_time()
    score = rouge_l(answer, ["犬", letters])
    spent, memory = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 <= score <= 100
    assert spent < 10
    assert memory < 200e6


def test_two_long_texts_score_as_two_short_ones():
    """Half of the words in common, 30,000 of them: the full table would take minutes and gigabytes."""
    began = time.process_time()
    assert rouge_l("赤い犬、" * 7_000, ["赤い猫、" * 7_000]) == pytest.approx(100 * 2 / 3)
    assert time.process_time() - began < 10


def test_what_follows_the_limit_does_not_count():
    text = "犬が。" * (MOST_CHARACTERS // 3 + 1)
    assert rouge_l(text + "猫" * 100_000, [text]) == 100.0
    assert exact_match(text + "猫", [text])


def test_characters_that_end_a_c_string_or_cannot_be_encoded_are_no_words():
    assert rouge_l("犬\0が いる", ["犬がいる"]) == pytest.approx(rouge_l("犬 がいる", ["犬がいる"]))
    assert 0 < rouge_l("犬\ud800がいる", ["犬がいる"]) < 100


ANY = st.text(st.characters(codec=None), max_size=80)  # halves of surrogate pairs, too


@given(ANY, st.lists(ANY, min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_characters_at_all_are_scored(answer: str, references: list[str]):
    assert 0 <= rouge_l_ja(answer, references) <= rouge_l(answer, references) <= 100
    assert exact_match(answer, [*references, answer])
