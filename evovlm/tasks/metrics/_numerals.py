"""Convert Japanese numerals to values: kanji ("二千五百", "二〇二六") and digits with myriads ("2万5千", "1.5億").

Knows no sentences: which numeral of a text counts is decided elsewhere.
"""

import re
from fractions import Fraction

DIGITS = {"〇": 0, "零": 0} | {character: value for value, character in enumerate("一二三四五六七八九", start=1)}
SMALL = {"十": 10, "百": 100, "千": 1000}
LARGE = {"万": 10**4, "億": 10**8, "兆": 10**12}

KANJI_NUMERAL = re.compile("[〇零一二三四五六七八九十百千][〇零一二三四五六七八九十百千万億兆]*")
_PIECE = re.compile(r"[\d,]*\.?\d+|[十百千万億兆]")


def kanji_value(text: str) -> int:
    """The value of a kanji numeral, written with units ("二千五百") or digit by digit ("二〇二六")."""
    places = "".join(str(DIGITS.get(character, character)) for character in text)
    value = mixed_value(places)
    assert value.denominator == 1, "kanji numerals have no decimals"
    return int(value)


def mixed_value(text: str) -> Fraction:
    """The value of digits mixed with units ("2万5千"); thousands separators and decimals are allowed."""
    total = section = Fraction(0)
    number: Fraction | None = None
    for piece in _PIECE.findall(text):
        if piece in SMALL:
            section += SMALL[piece] * (Fraction(1) if number is None else number)
            number = None
        elif piece in LARGE:
            section += Fraction(0) if number is None else number
            # A unit without a number counts once: 万 is 10,000.
            total += LARGE[piece] * (section or Fraction(0 if number == 0 else 1))
            section, number = Fraction(0), None
        else:
            number = Fraction(piece.replace(",", ""))
    return total + section + (number or 0)
