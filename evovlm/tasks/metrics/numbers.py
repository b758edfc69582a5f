"""Extract an answer's number: `compatible` as the paper's code does, `corrected` as people write numbers.

Knows no tasks. `compatible` takes the last match of the paper's regular expression: a thousands separator splits a
number ("1,000" reads as 0) and minus signs are lost. `corrected` works in these steps:

1. Unify notation (`_notation.py`): widths, LaTeX, markdown, minus signs, 半.
2. Choose the text to search: the last boxed number; else the sentence after the last marker that gives a number
   ("答え:", "答えは", "【答え】", "Answer:", "The answer is", "####"); else the whole text. MGSM's lead-in
   "ステップごとの答え" is not a marker.
3. Take the last number of that text (after an English marker, the first, because there the number comes first; with
   an "=", of the part after the last "="). Text in brackets after a marker is ignored. Kanji numerals are read only if
   the text has no digits, because many words contain them.
4. Thousands separators, signs (also マイナス, and △ and ▲ of Japanese accounts), decimals, fractions ("3/4", "4分の3",
   "1 1/2", "½"), powers of ten ("1.2×10^5", "1e3"), myriads ("8万", "2万5千") and words such as "million" are read;
   units are not: "50%" is 50.
"""

import re
from fractions import Fraction
from typing import Literal

from evovlm.tasks.metrics._notation import unify
from evovlm.tasks.metrics._numerals import KANJI_NUMERAL, kanji_value, mixed_value

NumberScoring = Literal["compatible", "corrected"]

MOST_MARKERS = 50  # bounds the work on an answer that repeats itself endlessly

_COMPATIBLE = re.compile(r"\d*\.?\d+")

_PLAIN = r"(?:\d{1,3}(?:,\d{3}){1,30}(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_MYRIADS = rf"(?:{_PLAIN})(?:[十百千万億兆](?:{_PLAIN})?)*"
# A sign cannot follow an operand ("10-3" subtracts), nor a number a letter, power or index ("m2", "10^3", "x_1").
_SIGN = r"(?<![\d)\]}.,%])[-+]"
_START = r"(?<![A-Za-z^_\d])(?<!\d\.)"
_POWER = r"(?: ?[×x*] ?10\^\{?(?P<power>-?\d{1,2})\}?|[eE](?P<exponent>[-+]?\d{1,2})(?![A-Za-z\d]))"
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})?{_START}(?:"
    r"(?P<share>(?:(?P<share_whole>\d+)と)?(?<!時間)(?P<share_under>\d+)分の(?P<share_over>\d+))"
    r"|(?P<ratio>(?<!/)(?:(?P<ratio_whole>\d+)(?: |と))?(?P<ratio_over>\d[\d,]*)/(?P<ratio_under>0*[1-9]\d*)(?![\d/]))"
    rf"|(?P<mixed>{_MYRIADS})(?:{_POWER}| ?(?P<scale>hundred|thousand|million|billion|trillion)(?![A-Za-z]))?)",
    re.IGNORECASE,
)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_JAPANESE_MARKER = re.compile(r"(?<!ごとの)(?:答え?|解答|回答|正解|解)(?:え)?(?:は|が|[:=→】\]]|\s(?=\s*[-$¥\d]))\s*")
_ENGLISH_MARKER = re.compile(r"(?:\banswer(?:\s+is|\s*[:=])|####)[:\s]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[。\n!?]|\.(?=\s|$)")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|「[^」]*」")


def extract_number(text: str, scoring: NumberScoring = "corrected") -> str | None:
    """The answer's number as text, or None if there is none.

    `corrected` returns a plain decimal ("1000", "-3.5") or, if no decimal is exact, a fraction ("1/3"). Raises
    ValueError for an unknown `scoring`.
    """
    if scoring == "compatible":
        found = _COMPATIBLE.findall(text)
        return found[-1] if found else None
    if scoring != "corrected":
        raise ValueError(f"unknown scoring {scoring!r}; choose from ['compatible', 'corrected']")
    value = _corrected(unify(text))
    return None if value is None else _plain(value)


def same_number(a: str | None, b: str | None) -> bool:
    """Whether two strings that are just numbers have the same value: "18" and "18.00", "2,125" and "2125".

    False if either is None or not a number.
    """
    first, second = _value(a), _value(b)
    return first is not None and first == second


def _value(text: str | None) -> Fraction | None:
    try:
        return None if text is None else Fraction(text.replace(",", "").strip())
    except (ValueError, ZeroDivisionError):
        return None


def _plain(value: Fraction) -> str:
    """A decimal if that is exact, else a fraction."""
    under, places = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while under % prime == 0:
            under, power = under // prime, power + 1
        places = max(places, power)
    if under != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def _corrected(text: str) -> Fraction | None:
    for boxed in reversed(_boxed(text)):
        value = _last(boxed)
        if value is not None:
            return value
    markers = [(match, False) for match in _JAPANESE_MARKER.finditer(text)]
    markers += [(match, True) for match in _ENGLISH_MARKER.finditer(text)]
    for match, english in sorted(markers, key=lambda marker: marker[0].end(), reverse=True)[:MOST_MARKERS]:
        value = _marked(text[match.end() :], english)
        if value is not None:
            return value
    return _last(text)


def _boxed(text: str) -> list[str]:
    r"""The contents of each \boxed{...}, with balanced braces."""
    found = []
    for match in re.finditer(r"\\boxed\s*\{", text):
        depth, start = 1, match.end()
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                found.append(text[start:place])
                break
    return found


def _marked(rest: str, english: bool) -> Fraction | None:
    """The number in the sentence after a marker; None if it has none."""
    end = _SENTENCE_END.search(rest)
    sentence = _BRACKETS.sub(" ", rest[: end.start()] if end else rest)
    numbers = _numbers(sentence.rpartition("=")[2])
    if not numbers:
        return None
    return numbers[0] if english else numbers[-1]


def _last(text: str) -> Fraction | None:
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Fraction]:
    """All numbers of a text in order; kanji numerals only if there are no digits."""
    digits = [_read(match) for match in _NUMBER.finditer(text)]
    if digits:
        return digits
    spelled = KANJI_NUMERAL.sub(lambda match: str(kanji_value(match.group())), text)
    return [_read(match) for match in _NUMBER.finditer(spelled)]


def _read(match: re.Match[str]) -> Fraction:
    part = match.groupdict()
    if part["share"]:
        value = Fraction(int(part["share_whole"] or 0))
        under = int(part["share_under"])
        value += Fraction(int(part["share_over"]), under) if under else 0
    elif part["ratio"]:
        value = Fraction(int(part["ratio_whole"] or 0))
        value += Fraction(int(part["ratio_over"].replace(",", "")), int(part["ratio_under"]))
    else:
        value = mixed_value(part["mixed"]) * _SCALES.get((part["scale"] or "").lower(), 1)
        value *= Fraction(10) ** int(part["power"] or part["exponent"] or 0)
    return -value if part["sign"] == "-" else value
