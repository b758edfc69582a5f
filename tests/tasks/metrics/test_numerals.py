from fractions import Fraction

import pytest

from evovlm.tasks.metrics._numerals import kanji_value, mixed_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("十", 10),
        ("十八", 18),
        ("二〇二六", 2026),
        ("千二百三十四", 1234),
        ("一万", 10**4),
        ("二千五百万三", 25_000_003),
    ],
)
def test_kanji_are_read_by_units_and_by_places(text: str, value: int):
    assert kanji_value(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8万", Fraction(80000)),
        ("2万5千", Fraction(25000)),
        ("1億2000万", Fraction(120_000_000)),
        ("1.5億", Fraction(150_000_000)),
        ("1,234.5", Fraction(2469, 2)),
        ("0万", Fraction(0)),
    ],
)
def test_digits_take_units(text: str, value: Fraction):
    assert mixed_value(text) == value
