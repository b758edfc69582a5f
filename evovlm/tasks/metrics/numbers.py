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
   Claims of certainty ("100% sure", "100%正しい") are ignored if another number is left.
4. Thousands separators (also "1、200円" and "1 000 000"), signs (also マイナス, and △ and ▲ of Japanese accounts),
   decimals, fractions ("3/4", "4分の3", "1 1/2", "½"), powers of ten ("1.2×10^5", "1e3"), myriads ("8万", "2万5千") and
   words such as "million" are read; units are not: "50%" is 50.

The work on any text is bounded. Of a text of more than 65,536 characters, the last 65,536 are read; after a marker and
in a box, 2,000. A numeral is cut after 100 digits; a power of ten beyond 99 makes a number unreadable.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from evovlm.tasks.metrics._notation import MOST_DIGITS, unify
from evovlm.tasks.metrics._numerals import KANJI_NUMERAL, kanji_value, mixed_value
from evovlm.tasks.metrics.limits import tail

__all__ = ["MOST_DIGITS", "MOST_POWER", "NumberScoring", "extract_number", "same_number"]

NumberScoring = Literal["compatible", "corrected"]

# Bounds on the work on an answer that repeats itself endlessly: markers and boxes tried, characters read after each.
MOST_MARKERS = 50
MOST_AFTER = 2_000
MOST_POWER = 99  # of ten; with at most 100 digits, no value or fraction has more than the 640 digits Python converts
LONGEST_EXACT = 1_300  # characters of a string that is just a number, such as those that `extract_number` returns

_COMPATIBLE = re.compile(r"\d*\.?\d+")

_PLAIN = r"(?:\d{1,3}(?:,\d{3}){1,30}(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_MYRIADS = rf"(?:{_PLAIN})(?:[十百千万億兆](?:{_PLAIN})?)*"
# A sign cannot follow an operand ("10-3" subtracts), nor a number a letter, power or index ("m2", "10^3", "x_1").
_SIGN = r"(?<![\d)\]}.,%])[-+]"
_START = r"(?<![A-Za-z^_\d])(?<!\d\.)"
_POWER = r"(?: ?[×x*] ?10\^\{?(?P<power>-?\d+)\}?|[eE](?P<exponent>[-+]?\d+)(?![A-Za-z\d]))"
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})?{_START}(?:"
    r"(?P<share>(?:(?P<share_whole>\d+)と)?(?<!時間)(?P<share_under>\d+)分の(?P<share_over>\d+))"
    r"|(?P<ratio>(?<!/)(?:(?P<ratio_whole>\d+)(?: |と))?"
    r"(?P<ratio_over>\d+(?:,\d{3}){0,30})/(?P<ratio_under>0*[1-9]\d*)(?![\d/]))"
    rf"|(?P<mixed>{_MYRIADS})(?:{_POWER}| ?(?P<scale>hundred|thousand|million|billion|trillion)(?![A-Za-z]))?)",
    re.IGNORECASE,
)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_JAPANESE_MARKER = re.compile(r"(?<!ごとの)(?:答え?|解答|回答|正解|解)(?:え)?(?:は|が|[:=→】\]]|\s(?=\s*[-$¥\d]))\s*")
_ENGLISH_MARKER = re.compile(r"(?:\banswer(?:\s+is|\s*[:=])|####)[:\s]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[。\n!?]|\.(?=\s|$)")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|「[^「」]*」")
# Right after a marker, a number may have a single group of thousands after a space: "答えは1 500円です".
_SPACED_FIRST = re.compile(r"\A([\s$¥*-]*\d{1,3}) (?=\d{3}(?!\d|[ ,/]\d))")
_PERCENT = r"(?<![=\d.])(?<!= )(?:100|99)(?:\.\d+)? ?(?:%|パーセント|percent)"
_SURE = r"sure|certain|confident|correct|right|accurate"
_CERTAINTY = re.compile(
    rf"(?:\b(?:{_SURE}|certainty|confidence)\b|自信度?|確信度?|信頼度|確率)[^\d。.\n]{{0,12}}{_PERCENT}"
    rf"|{_PERCENT} ?(?:(?:{_SURE}|certainty|confidence)\b|の?(?:正し|正確|確か|確実|確信|自信|間違い|合って|確率で))",
    re.IGNORECASE,
)
_HUGE_POWER = re.compile(r"[eE][-+]?\d{3}")


def extract_number(text: str, scoring: NumberScoring = "corrected") -> str | None:
    """The answer's number as text, or None if there is none.

    `corrected` returns a plain decimal ("1000", "-3.5") or, if no decimal is exact, a fraction ("1/3"). Raises
    ValueError for an unknown `scoring`.
    """
    if scoring == "compatible":
        found = _COMPATIBLE.findall(tail(text))
        return found[-1] if found else None
    if scoring != "corrected":
        raise ValueError(f"unknown scoring {scoring!r}; choose from ['compatible', 'corrected']")
    unified = tail(unify(tail(text)))
    value = _corrected(_CERTAINTY.sub(" ", unified)) if "100" in unified or "99" in unified else None
    value = _corrected(unified) if value is None else value
    return None if value is None else _plain(value)


def same_number(a: str | None, b: str | None) -> bool:
    """Whether two strings that are just numbers have the same value: "18" and "18.00", "2,125" and "2125".

    False if either is None or not a number, or too large to compare (see above).
    """
    first, second = _value(a), _value(b)
    return first is not None and first == second


def _value(text: str | None) -> Fraction | None:
    if text is None or len(text) > LONGEST_EXACT or _HUGE_POWER.search(text.replace("_", "")):
        return None
    try:
        return Fraction(text.replace(",", "").strip())
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
    for boxed in _boxed(text):
        value = _last(boxed)
        if value is not None:
            return value
    markers = [(match.end(), False) for match in _JAPANESE_MARKER.finditer(text)]
    markers += [(match.end(), True) for match in _ENGLISH_MARKER.finditer(text)]
    for end, english in sorted(markers, reverse=True)[:MOST_MARKERS]:
        value = _marked(text[end : end + MOST_AFTER], english)
        if value is not None:
            return value
    return _last(text)


def _boxed(text: str) -> Iterator[str]:
    r"""The contents of the last \boxed{...}, with balanced braces, the last one first."""
    starts = [match.end() for match in re.finditer(r"\\boxed\s*\{", text)]
    for start in reversed(starts[-MOST_MARKERS:]):
        depth = 1
        for brace in re.finditer(r"[{}]", text[start : start + MOST_AFTER]):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                yield text[start : start + brace.start()]
                break


def _marked(rest: str, english: bool) -> Fraction | None:
    """The number in the sentence after a marker; None if it has none."""
    end = _SENTENCE_END.search(rest)
    sentence = _SPACED_FIRST.sub(r"\1", rest[: end.start()] if end else rest, count=1)
    numbers = _numbers(_BRACKETS.sub(" ", sentence).rpartition("=")[2])
    if not numbers:
        return None
    return _read(numbers[0] if english else numbers[-1])


def _last(text: str) -> Fraction | None:
    numbers = _numbers(text)
    return _read(numbers[-1]) if numbers else None


def _numbers(text: str) -> list[re.Match[str]]:
    """All numbers of a text in order; kanji numerals only if there are no digits."""
    digits = list(_NUMBER.finditer(text))
    if digits:
        return digits
    spelled = KANJI_NUMERAL.sub(lambda match: str(kanji_value(match.group())), text)
    return list(_NUMBER.finditer(spelled))


def _read(match: re.Match[str]) -> Fraction | None:
    """The value of a number; None if it has too large a power of ten."""
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
        power = int(part["power"] or part["exponent"] or 0)
        if abs(power) > MOST_POWER:
            return None
        value *= Fraction(10) ** power
    return -value if part["sign"] == "-" else value
