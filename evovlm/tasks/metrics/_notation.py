"""Unify notation before numbers are extracted: widths, LaTeX, markdown, minus signs, halves.

Knows characters, halves of units ("1時間半") and cents ("18ドル50セント"); which number counts is decided elsewhere.
"""

import re
import unicodedata

# No answer has more digits, and Python refuses to convert the huge numbers of a model that repeats one digit.
MOST_DIGITS = 100

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)\s*(\d))")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")
# A long-vowel mark means minus only if no word precedes it, or after the particle that introduces an answer.
_LONG_VOWEL_MINUS = re.compile(r"(?:(?<![ぁ-ヿ一-鿿A-Za-z\d])|(?<=[はが]))ー(?=\d)")
_NUMERAL = "〇零一二三四五六七八九十百千"
_WRITTEN_MINUS = re.compile(rf"(?:マイナス|[△▲])\s*(?=[\d{_NUMERAL}])")
_CENTS = re.compile(r"(\d)ドルと?(\d{1,2})セント")
_HALF = re.compile(r"(\d+)(?:時間|[かヶカヵケ]月|週間|ダース|[時分秒日年個杯枚倍])半(?![額分径年月日ば])")


def unify(text: str) -> str:
    """The text with each number in one notation; positions change, order does not."""
    spaced = "".join(_letter(character) for character in text)
    unified = unicodedata.normalize("NFKC", spaced).replace("⁄", "/")
    unified = re.sub(rf"(\d{{{MOST_DIGITS}}})\d+", r"\1", unified)
    unified = re.sub(r"\.{2,}", " ", unified)
    unified = re.sub(r"(?<=\^\d)\^(?=\d)", "", unified)  # a superscript of two digits is one power
    unified = _latex(unified).replace("**", "").replace("__", "")
    unified = re.sub(r"[−–‐‑‒﹣]", "-", unified)
    unified = _LONG_VOWEL_MINUS.sub("-", unified)
    unified = _WRITTEN_MINUS.sub("-", _old_numerals(unified))
    unified = re.sub(r"-\s*[$¥]\s*(?=\d)", "-", unified)
    unified = _CENTS.sub(lambda match: f"{match[1]}.{match[2].zfill(2)}ドル", unified)
    return _HALF.sub(r"\1.5", unified)


def _latex(text: str) -> str:
    plain = _LATEX_FRACTION.sub(lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text)
    plain = _LATEX_TEXT.sub(r"\1", plain).replace("{,}", ",").replace("\\times", "×")
    return re.sub(r"\\([%$#])", r"\1", re.sub(r"\\[,!;]", "", plain))


def _old_numerals(text: str) -> str:
    """Replace ゼロ and the formal numerals of cheques; 参 and 拾 are also words, so only beside other numerals."""
    text = text.replace("ゼロ", "零").replace("壱", "一").replace("弐", "二")
    text = re.sub(r"参(?=[拾百千万])", "三", text)
    return re.sub(rf"(?<=[{_NUMERAL}])拾", "十", text)


def _letter(character: str) -> str:
    """Replace characters that NFKC would distort.

    Superscript digits become powers, list numbers are dropped so as not to become digits, and a fraction gets a space
    before it, so that "3½" does not become "31/2".
    """
    form = unicodedata.decomposition(character).partition(" ")[0]
    if form == "<fraction>":
        return f" {character}"
    if form == "<super>" and character.isdigit():
        return f"^{character}"
    if form in ("<super>", "<sub>", "<circle>"):
        return ""
    return character
