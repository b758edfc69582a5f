"""ROUGE-L of Japanese text: F-measure on MeCab tokens, best of the references, with the language rule.

Knows no data sets. The overlap is google's `rouge_score`, the tokens fugashi's with unidic-lite, as in the paper's
evaluation code; a sentence's tokens are those of its normalised text.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import fugashi
import unidic_lite

from evovlm.tasks.metrics.language import Detector, is_japanese
from evovlm.tasks.metrics.normalise import normalise


class MecabTokenizer:
    """What `rouge_score` asks of a tokenizer, over MeCab. Its default knows Latin letters alone."""

    def __init__(self) -> None:
        # Named in full: fugashi would take a larger unidic where one is installed, and the scores would move.
        folder = unidic_lite.DICDIR
        self._tagger = fugashi.Tagger(f'-Owakati -r "{folder}/mecabrc" -d "{folder}"')

    @lru_cache(maxsize=65536)  # noqa: B019 - one instance a process, and references come back with each candidate
    def tokenize(self, text: str) -> list[str]:
        """Tokens of the normalised text."""
        tokens: list[str] = self._tagger.parse(normalise(text)).split()
        return tokens


@cache
def _scorer() -> Any:
    # Drags in nltk and scipy, two seconds that a command which scores nothing should not wait for.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=MecabTokenizer())


@lru_cache(maxsize=65536)
def _rouge_l(prediction: str, reference: str) -> float:
    return 100.0 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure, 0 to 100, against the reference that fits best.

    Raises ValueError without references.
    """
    if not references:
        raise ValueError("ROUGE-L needs at least one reference")
    return max(_rouge_l(prediction, reference) for reference in references)


def rouge_l_ja(prediction: str, references: Sequence[str], *, japanese: Detector = is_japanese) -> float:
    """`rouge_l` where an answer that is not Japanese counts as empty against a Japanese reference.

    `japanese` tells the language; the default needs no download. Raises ValueError without references.
    """
    raw = rouge_l(prediction, references)
    if raw == 0 or japanese(prediction):
        return raw
    # An empty answer scores nothing, so only references of other languages can still be met.
    return max((_rouge_l(prediction, reference) for reference in references if not japanese(reference)), default=0.0)


def exact_match(prediction: str, references: Sequence[str]) -> bool:
    """Whether the normalised answer equals a normalised reference."""
    return normalise(prediction) in {normalise(reference) for reference in references}
