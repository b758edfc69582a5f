"""ROUGE-L for Japanese text: F-measure on MeCab tokens, best over the references, with the language rule.

Knows no data sets. As in the paper's evaluation code, the score is google's `rouge_score` and the tokens are fugashi's
with unidic-lite; text is normalised before it is tokenised.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import fugashi
import unidic_lite

from evovlm.system.errors import MachineFault
from evovlm.tasks.metrics.language import Detector, is_japanese
from evovlm.tasks.metrics.normalise import normalise


class MecabTokenizer:
    """A MeCab tokenizer for `rouge_score`, whose default one handles only Latin letters.

    Raises MachineFault if MeCab cannot start.
    """

    def __init__(self) -> None:
        # The dictionary is named explicitly: fugashi would use a larger unidic if installed, and scores would change.
        folder = unidic_lite.DICDIR
        try:
            self._tagger = fugashi.Tagger(f'-Owakati -r "{folder}/mecabrc" -d "{folder}"')
        except RuntimeError as error:
            raise MachineFault(
                f"{folder}: MeCab cannot open this dictionary, which ROUGE-L needs; free memory, or install it again"
                " with `pip install --force-reinstall unidic-lite`"
            ) from error

    @lru_cache(maxsize=65536)  # noqa: B019 - one instance per process, and references recur with each candidate
    def tokenize(self, text: str) -> list[str]:
        """Tokens of the normalised text."""
        tokens: list[str] = self._tagger.parse(normalise(text)).split()
        return tokens


@cache
def _scorer() -> Any:
    # Imported late: it loads nltk and scipy, which costs two seconds that commands without scoring should not pay.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=MecabTokenizer())


@lru_cache(maxsize=65536)
def _rouge_l(prediction: str, reference: str) -> float:
    return 100.0 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


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
