"""Unify notation before numbers are extracted: widths, LaTeX, markdown, minus signs, halves, groups of thousands.

Knows characters, halves of units ("1時間半") and cents ("18ドル50セント"); which number counts is decided elsewhere.
"""

import re
import unicodedata

from evovlm.tasks.metrics.limits import nfkc

# No answer has more digits, and Python refuses to convert the huge numbers of a model that repeats one digit.
MOST_DIGITS = 100

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)\s*(\d))")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")
# A long-vowel mark means minus only if no word precedes it, or after the particle that introduces an answer.
_LONG_VOWEL_MINUS = re.compile(r"(?:(?<![ぁ-ヿ一-鿿A-Za-z\d])|(?<=[はが]))ー(?=\d)")
_NUMERAL = "〇零一二三四五六七八九十百千"
_WRITTEN_MINUS = re.compile(rf"(?:マイナス|[△▲])\s*(?=[\d{_NUMERAL}])")
_LARGE = "万億兆"
_TOO_MANY_DIGITS = re.compile(rf"(\d{{{MOST_DIGITS}}})\d+|([{_NUMERAL}{_LARGE}]{{{MOST_DIGITS}}})[{_NUMERAL}{_LARGE}]+")
# Separators of thousands other than commas.
_TOUTEN = re.compile(r"(?<![\d.,、問第])\d{1,3}(?:、\d{3})+(?!\d|[、,]\d)")
_SPACED = re.compile(r"(?<![\d.,、/^])(?<!\d )\d{1,3}(?: \d{3})+(?!\d|[ ,/]\d)")
_CENTS = re.compile(r"(\d)ドルと?(\d{1,2})セント")
_HALF = re.compile(r"(\d+)(?:時間|[かヶカヵケ]月|週間|ダース|[時分秒日年個杯枚倍])半(?![額分径年月日ば])")


def unify(text: str) -> str:
    """The text with each number in one notation; positions change, order does not."""
    unified = nfkc(text.translate(_LETTERS)).replace("⁄", "/")
    unified = _TOO_MANY_DIGITS.sub(lambda match: match[1] or match[2], unified)
    unified = re.sub(r"\.{2,}", " ", unified)
    unified = re.sub(r"(?<=\^\d)\^(?=\d)", "", unified)  # a superscript of two digits is one power
    unified = _latex(unified).replace("**", "").replace("__", "")
    unified = re.sub(r"[−–‐‑‒﹣]", "-", unified)
    unified = _LONG_VOWEL_MINUS.sub("-", unified)
    unified = _WRITTEN_MINUS.sub("-", _old_numerals(unified))
    unified = re.sub(r"-\s*[$¥]\s*(?=\d)", "-", unified)
    unified = _SPACED.sub(_unspaced, _TOUTEN.sub(_without_touten, unified))
    unified = _CENTS.sub(lambda match: f"{match[1]}.{match[2].zfill(2)}ドル", unified)
    return _HALF.sub(r"\1.5", unified)


def _latex(text: str) -> str:
    plain = _LATEX_FRACTION.sub(lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text)
    plain = _LATEX_TEXT.sub(r"\1", plain).replace("{,}", ",").replace("\\times", "×")
    return re.sub(r"\\([%$#])", r"\1", re.sub(r"\\[,!;]", "", plain))


def _without_touten(match: re.Match[str]) -> str:
    """Join "1、200"; "200、300" is a list, unless it ends with zeros."""
    first, *_, last = match[0].split("、")
    return match[0].replace("、", "") if len(first) < 3 or last == "000" else match[0]


def _unspaced(match: re.Match[str]) -> str:
    """Join "1 000 000" and "20 000"; in "3 200", the numbers may belong to different words."""
    first, *others = match[0].split(" ")
    joined = others[-1] == "000" or (len(first) < 3 and len(others) > 1)
    return match[0].replace(" ", "") if joined else match[0]


def _old_numerals(text: str) -> str:
    """Replace ゼロ and the formal numerals of cheques; 参 and 拾 are also words, so only beside other numerals."""
    text = text.replace("ゼロ", "零").replace("壱", "一").replace("弐", "二")
    text = re.sub(r"参(?=[拾百千万])", "三", text)
    return re.sub(rf"(?<=[{_NUMERAL}])拾", "十", text)


class _Letters(dict[int, str]):
    """A table for `str.translate`, filled with the characters that occur: see `_letter`."""

    def __missing__(self, code: int) -> str:
        self[code] = _letter(chr(code))
        return self[code]


def _letter(character: str) -> str:
    """Replace characters that NFKC would distort.

    Superscript digits become powers, list numbers are dropped so as not to become digits, and a fraction gets spaces
    around it, so that "3½" does not become "31/2", nor "½3" "1/23".
    """
    form = unicodedata.decomposition(character).partition(" ")[0]
    if form == "<fraction>":
        return f" {character} "
    if form == "<super>" and character.isdigit():
        return f"^{character}"
    if form in ("<super>", "<sub>", "<circle>"):
        return ""
    return character


_LETTERS = _Letters()
