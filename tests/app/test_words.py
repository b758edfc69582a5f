"""Both languages say the same things."""

import re
import string

import pytest

from evovlm_app.words import GRADIO_LABELS, GRADIO_SENTENCES, WORDS, browser_words, preferred, say


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", sorted(WORDS))
def test_both_languages_have_the_same_places_and_the_right_script(key: str):
    japanese, english = WORDS[key]
    assert places(japanese) == places(english)
    assert not re.search("[ぁ-んァ-ヶ]", english.replace("青い丸はどこですか", ""))


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja,en-US;q=0.9,en;q=0.8", "ja"),
        ("en-GB,en;q=0.9,ja;q=0.8", "en"),
        ("de-DE,ja;q=0.5,en;q=0.4", "ja"),
        ("en;q=0.2, ja;q=0.7", "ja"),
        ("fr", "en"),
        ("", "en"),
        (None, "en"),
        ("ja;q=nonsense", "en"),
    ],
)
def test_the_browser_chooses_the_language(header: str | None, language: str):
    assert preferred(header) == language


def test_a_sentence_is_filled():
    assert say("no_room", "en", name="x", need="9.0", most="1.0").startswith("x needs 9.0 GB")


def test_gradios_own_words_are_said_in_both_languages():
    for japanese, english in [*GRADIO_LABELS.values(), *GRADIO_SENTENCES.values()]:
        assert re.search("[ぁ-んァ-ヶ一-龠]", japanese)
        assert english.isascii()
    assert "8 MB" in browser_words("8 MB")["starts"]["File(s) exceed"]["ja"]
