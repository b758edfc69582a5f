from hypothesis import given
from hypothesis import strategies as st

from evovlm.tasks.metrics.normalise import normalise


def test_widths_are_unified():
    assert normalise("ｱｲｳ　ＡＢＣ１２３") == "アイウABC123"


def test_emoji_are_dropped():
    assert normalise("犬😀です🚀✂") == "犬です"


def test_spaces_stay_only_between_latin_words():
    assert normalise("  a  red\n ball ") == "a red ball"
    assert normalise("赤い ボール") == "赤いボール"


def test_repeated_long_vowels_shrink():
    assert normalise("すごーーーい") == "すごーい"


@given(st.text())
def test_no_text_breaks_it_and_no_white_space_is_left_at_the_ends(text: str):
    assert normalise(text) == normalise(text).strip()
