"""ROUGE-L for Japanese text: F-measure on MeCab tokens, best over the references, with the language rule.

Knows no data sets. As in the paper's evaluation code, scores are google's `rouge_score` and tokens are fugashi's with
unidic-lite; text is normalised before it is tokenised. `rouge_score` fills a table of all pairs of tokens, which takes
minutes and gigabytes for two long texts: beyond `MOST_PAIRS` pairs, rapidfuzz finds the same common subsequence in
linear memory, and the score is the same bit for bit.

Of each text, the first 65,536 characters count (`normalise`). MeCab gets a text of more than `MOST_AT_ONCE` characters
in pieces that end with a sentence, because its time grows with the square of a run of equal letters and it crashes on
hundreds of thousands of characters. So only the scores of texts longer than that can differ from the paper's.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import fugashi
import unidic_lite

from evovlm.system.errors import MachineFault
from evovlm.tasks.metrics.language import Detector, is_japanese
from evovlm.tasks.metrics.limits import remember
from evovlm.tasks.metrics.normalise import normalise

MOST_AT_ONCE = 8_192  # characters
LONGEST_RUN = 256
# MeCab tries to make one unknown word of each run of these, from each place in it. No normal text has such a run.
_RUN = re.compile("|".join(rf"{kind}{{{LONGEST_RUN}}}" for kind in ("[ァ-ヿ]", r"[^\W_ぁ-ヿ一-鿿]", r"[^\w\s]", "_")))
_SENTENCE_END = re.compile(r"[。!?]| ")
MOST_PAIRS = 1_000_000  # of tokens; beyond it, `rouge_score` would take seconds


@remember
def tokenize(text: str) -> tuple[str, ...]:
    """MeCab's tokens of the normalised text. Raises MachineFault if MeCab cannot start."""
    plain, parse = normalise(text), _tagger().parse
    if len(plain) < LONGEST_RUN:
        return tuple(parse(plain).split())
    return tuple(token for piece in pieces(plain) for token in parse(piece).split())


def pieces(text: str) -> Iterator[str]:
    """The text in pieces that MeCab can take: the text itself, if it is of normal length and has no endless run."""
    start = 0
    for cut in [*(run.end() for run in _RUN.finditer(text)), len(text)]:
        while cut - start > MOST_AT_ONCE:
            ends = [end.end() for end in _SENTENCE_END.finditer(text, start, start + MOST_AT_ONCE)]
            end = ends[-1] if ends else start + MOST_AT_ONCE
            yield text[start:end]
            start = end
        yield text[start:cut]
        start = cut


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence of two lists of tokens."""
    from rapidfuzz.distance import LCSseq

    # Numbers for tokens, because rapidfuzz compares strings by their hashes.
    numbers: dict[str, int] = {}
    return int(
        LCSseq.similarity(*([numbers.setdefault(token, len(numbers)) for token in text] for text in (one, other)))
    )


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure, 0 to 100, against the best-matching reference.

    Raises ValueError without references.
    """
    if not references:
        raise ValueError("ROUGE-L needs at least one reference")
    return max(_rouge_l(prediction, reference) for reference in references)


def rouge_l_ja(prediction: str, references: Sequence[str], *, japanese: Detector = is_japanese) -> float:
    """`rouge_l` with the language rule: a non-Japanese answer counts as empty against a Japanese reference.

    `japanese` detects the language; the default needs no download. Raises ValueError without references.
    """
    raw = rouge_l(prediction, references)
    if raw == 0 or japanese(prediction):
        return raw
    # An empty answer scores 0, so only references in other languages can still score.
    return max((_rouge_l(prediction, reference) for reference in references if not japanese(reference)), default=0.0)


def exact_match(prediction: str, references: Sequence[str]) -> bool:
    """Whether the normalised answer equals a normalised reference."""
    return normalise(prediction) in {normalise(reference) for reference in references}


class _Tokenizer:
    """MeCab for `rouge_score`, whose default tokenizer handles only Latin letters."""

    def tokenize(self, text: str) -> list[str]:
        return list(tokenize(text))


@cache
def _scorer() -> Any:
    # Imported late: it loads nltk and scipy, which costs two seconds that commands without scoring should not pay.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Tokenizer())


@remember
def _rouge_l(prediction: str, reference: str) -> float:
    said, wanted = tokenize(prediction), tokenize(reference)
    if len(said) * len(wanted) <= MOST_PAIRS:
        return 100.0 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)
    common = longest_common(said, wanted)
    if common == 0:
        return 0.0
    # In the order of google's operations, so that the rounding is the same.
    precision, recall = common / len(said), common / len(wanted)
    return 100.0 * (2 * precision * recall / (precision + recall))


@cache
def _tagger() -> fugashi.Tagger:
    # The dictionary is named explicitly: fugashi would use a larger unidic if installed, and scores would change.
    folder = unidic_lite.DICDIR
    try:
        return fugashi.Tagger(f'-Owakati -r "{folder}/mecabrc" -d "{folder}"')
    except RuntimeError as error:
        raise MachineFault(
            f"{folder}: MeCab cannot open this dictionary, which ROUGE-L needs; free memory, or install it again"
            " with `pip install --force-reinstall unidic-lite`"
        ) from error
