import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evovlm.tasks.metrics.numbers import extract_number, same_number

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"


def test_corrected_reads_what_people_write():
    rows = (FIXTURES / "numbers.tsv").read_text(encoding="utf-8").splitlines()[1:]
    cases = [(text.replace("\\n", "\n"), number) for text, number in (row.split("\t") for row in rows)]
    found = {text: extract_number(text) for text, _ in cases}
    wrong = {
        text: found[text]
        for text, number in cases
        if not (found[text] is None if number == "-" else same_number(found[text], number))
    }
    assert wrong == {}
    assert len(found) > 400


@pytest.mark.parametrize(
    ("text", "number"), [("1,000", "000"), ("-5", "5"), ("答えは18.5です", "18.5"), ("8万ドル", "8"), ("二", None)]
)
def test_compatible_keeps_the_faults_of_the_reference(text: str, number: str | None):
    assert extract_number(text, "compatible") == number


def test_compatible_takes_one_thousand_for_nothing():
    assert same_number(extract_number("1,000", "compatible"), "0")


def test_an_unknown_scoring_is_told_its_choices():
    with pytest.raises(ValueError, match="compatible"):
        extract_number("1", "strict")  # type: ignore[arg-type]


def test_numbers_are_the_same_by_value():
    assert same_number("18", "18.00")
    assert same_number("2,125", "2125")
    assert same_number("1/3", "2/6")
    assert not same_number("18", "-18")
    assert not same_number(None, None)
    assert not same_number("1/0", "1/0")


def kanji(number: int) -> str:
    """Kanji by units, from scratch: 25000 -> 二万五千."""
    if number == 0:
        return "零"
    text = ""
    for unit, name in ((10**8, "億"), (10**4, "万")):
        if number >= unit:
            text += kanji(number // unit) + name
            number %= unit
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        count, number = divmod(number, unit)
        if count:
            text += ("" if count == 1 and name else "〇一二三四五六七八九"[count]) + name
    return text


def myriads(number: int) -> str:
    high, low = divmod(number, 10**4)
    return f"{high}万{low or ''}" if high else str(low)


WAYS: dict[str, Callable[[int], str]] = {
    "plain": lambda n: f"まず3個と4個で7個です。答えは{n}です。",
    "thousands": lambda n: f"3+4=7。答えは{n:,}です。",
    "decimal": lambda n: f"3×4=12。したがって{n}.0です。",
    "full width": lambda n: "答え：" + str(n).translate(str.maketrans("0123456789", "０１２３４５６７８９")) + "個",
    "full width thousands": lambda n: (
        "合計" + f"{n:,}".translate(str.maketrans("0123456789,", "０１２３４５６７８９，")) + "円"
    ),
    "kanji": lambda n: f"答えは{kanji(n)}個です。",
    "myriads": lambda n: f"1日に3ドルなので、{myriads(n)}ドルです。",
    "boxed": lambda n: rf"よって $\boxed{{{n}}}$ です。検算は5回しました。",
    "boxed thousands": lambda n: rf"\boxed{{{n:,}\text{{ドル}}}}".replace(",", "{,}"),
    "aside": lambda n: f"答えは{n}ドル（9個×2ドル）です。ほかに3つの解き方があります。",
    "equation": lambda n: f"答え: 1 + {n - 1} = {n}",
    "english": lambda n: f"She has 3 bags. The answer is ${n:,}.00 for 2 days.",
    "hashes": lambda n: f"9*2=18\n#### {n:,}",
    "new line": lambda n: f"最終的な答え：\n\n**{n}** 個",
    "full width decimal": lambda n: f"1日3個なので、{n}．０個".translate(
        str.maketrans("0123456789", "０１２３４５６７８９")
    ),
    "brackets": lambda n: f"【答え】{n:,}ドル（9個×2ドル）",
    "places in kanji": lambda n: (
        "答えは" + str(n).translate(str.maketrans("0123456789", "〇一二三四五六七八九")) + "です"
    ),
    "calculator": lambda n: f"9*2=<<9*2={n}>>{n}ドル",
    "power of ten": lambda n: f"答え: {n}×10^0",
    "minus": lambda n: f"答えは−{n:,}度です。",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_gold_answers_come_back_however_they_are_written(shared_data: Path, way: str):
    rows = (shared_data / "mgsm" / "mgsm_ja.tsv").read_text(encoding="utf-8").splitlines()
    gold = [row.split("\t")[1] for row in rows]
    assert len(gold) == 250
    sign = "-" if way == "minus" else ""
    for answer in gold:
        text = WAYS[way](int(answer.replace(",", "")))
        assert same_number(extract_number(text), sign + answer), (text, answer)


def test_the_exemplars_own_solutions_give_their_answers(shared_data: Path):
    exemplars = json.loads((shared_data / "mgsm" / "exemplars_ja_en.json").read_text(encoding="utf-8"))
    found = [extract_number(exemplars["exemplars"][lang][str(i)]["a"]) for lang in ("ja", "en") for i in range(1, 9)]
    assert found == [str(number) for number in exemplars["number_answers"]] * 2


@given(st.text(alphabet="0123456789,./-+万千十一二分のと =ー(){}\\boxed%$^_.△答えは:", max_size=40))
def test_no_text_breaks_the_reader_and_what_it_reads_is_a_number(text: str):
    number = extract_number(text)
    assert number is None or same_number(number, number)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "答えは" + "1,000," * 2000,
        "1" + ",000" * 2000,
        "万" * 5000,
        "1" + "万2千" * 1000,
        "答え:" * 3000,
        "1/" * 3000,
    ],
)
def test_a_model_that_repeats_itself_for_ever_is_read_at_once(text: str):
    """4,300 digits are more than Python converts, and a slow pattern would stop a search."""
    began = time.process_time()
    for scoring in ("compatible", "corrected"):
        found = extract_number(text, scoring)
        assert found is None or not same_number(found, "18")
    assert time.process_time() - began < 1


REPEATED = (
    "1,1,",
    "\\boxed{",
    "\\boxed{a",
    "「",
    "(",
    "答えは",
    "答えはあ",
    "answer is a ",
    "九",
    "九万",
    "九,",
    "1/",
    "1分の",
    "1と",
)
REPEATED += (
    "1万",
    "9" * 101 + ",",
    "1e9",
    "1、111",
    "1 111 ",
    "100% ",
    "sure ",
    "\u0301\u0316",
    "\ufdfa1",
    "△ ",
    "\\frac{1",
    "=1",
)


@pytest.mark.parametrize("piece", REPEATED)
def test_the_time_for_an_answer_without_end_does_not_grow_with_its_length(piece: str):
    began = time.process_time()
    for length in (5_000, 400_000):
        for scoring in ("compatible", "corrected"):
            found = extract_number(piece * (length // len(piece)), scoring)
            assert found is None or not same_number(found, "18")
    assert time.process_time() - began < 8


def test_the_answer_at_the_end_of_a_long_text_is_found():
    assert extract_number("1,1," * 100_000 + "答えは18です。") == "18"


@pytest.mark.parametrize("huge", ["1e999999999", "1E100", "-1e-999999999", "5×10^120", "1e9_99_999"])
def test_a_number_that_is_too_large_is_none(huge: str):
    assert extract_number(huge) is None or "_" in huge
    assert not same_number(huge, huge)
    assert not same_number(huge, "1")


def test_the_largest_powers_are_read():
    assert extract_number("1.5e99") == "15" + "0" * 98
    assert same_number("1.5e99", "15" + "0" * 98)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("会費は2、500円です", "2500"),
        ("合計は１２、０００円", "12000"),
        ("1､234､567人", "1234567"),
        ("120、000円", "120000"),
        ("200、350円です", "350"),
        ("10、20、300", "300"),
        ("それぞれ1、2、3です", "3"),
        ("It holds 2 345 678 litres.", "2345678"),
        ("30\u202f000 people", "30000"),
        ("on day 3 200 people", "200"),
        ("答えは1 500円です", "1500"),
        ("答えは1 3/4です", "1.75"),
        ("$ 7 000.50", "7000.5"),
    ],
)
def test_thousands_may_be_separated_by_touten_or_spaces(text: str, number: str):
    assert extract_number(text) == number


def test_a_fraction_of_one_character_ends_where_it_ends():
    assert extract_number("x = 3½", "corrected") == "3.5"
    assert extract_number("¼1", "corrected") == "1"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The total is 12 eggs. I am 100% sure.", "12"),
        ("答えは7個です。この答えは100%正しいです。", "7"),
        ("7個になります（自信度：99%）", "7"),
        ("She sold 9 in all. Confidence: 99.9%", "9"),
        ("答えは100%です。", "100"),
        ("He was 100% correct", "100"),
        ("45/45 = 100% correct", "100"),
        ("50%が正しい", "50"),
    ],
)
def test_a_claim_of_certainty_is_not_the_answer(text: str, number: str):
    assert extract_number(text) == number


@given(st.text(st.characters(codec=None), max_size=60))
@example("⅓")
@settings(max_examples=200, deadline=None)
def test_any_characters_at_all_are_read(text: str):
    for scoring in ("compatible", "corrected"):
        number = extract_number(text, scoring)
        assert number is None or same_number(number, str(Fraction(number))), "what is found is a number"


@given(st.integers(-(10**12), 10**12))
def test_every_integer_comes_back_with_thousands_separators(number: int):
    assert extract_number(f"答えは{number:,}です") == str(number)
