"""Normalise text before comparison: drop emoji, apply neologdn, collapse white space.

Knows no tokens and no scores. The steps, their order and the character sets are those of the paper's evaluation code
(arXiv:2403.13187), so that scores are comparable.
"""

import re

import emoji
import neologdn

from evovlm.tasks.metrics.limits import encodable, head, remember

# `str.translate` drops them at once, several times as fast as asking the package for each character.
_EMOJI = dict.fromkeys(ord(one) for one in emoji.EMOJI_DATA if len(one) == 1)
# Blocks dropped in addition to what the emoji package knows: emoticons, pictographs, transport, flags, dingbats.
_PICTURES = re.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff✂-➰]")


@remember
def normalise(text: str) -> str:
    """Drop emoji, unify widths and repeated marks (neologdn), collapse white space to single spaces.

    Of a longer text, only the first 65,536 characters count; lone surrogates become U+FFFD.

    neologdn makes letters and digits half-width, kana full-width, and removes spaces beside Japanese characters.
    Characters are checked one by one, so joiners and variation selectors of an emoji sequence stay.
    """
    kept = encodable(head(text)).translate(_EMOJI)
    unified = neologdn.normalize(_PICTURES.sub("", kept))
    return " ".join(unified.split())
