"""The zoo's tokenizer: byte-level BPE in which kana, kanji and numbers of one or two digits are single tokens.

Knows only text; no model, no training mixture.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
IMAGE = "<image>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
LARGEST_VOCABULARY = 1024
# A Japanese character, a number of at most two digits, or a line break is split off before BPE.
ALONE = Regex(r"[\p{Han}\p{Hiragana}\p{Katakana}ー。、]|\d{1,2}|\n")


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Learn the vocabulary from texts; each of their Japanese characters becomes one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(ALONE, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY,
        min_frequency=1,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, *, with_image: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer as a transformers tokenizer; `with_image` appends `<image>` to the vocabulary."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    names = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    if with_image:
        copy.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
        return PreTrainedTokenizerFast(
            tokenizer_object=copy,
            padding_side="left",
            clean_up_tokenization_spaces=False,
            extra_special_tokens={"image_token": IMAGE},
            **names,
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=copy, padding_side="left", clean_up_tokenization_spaces=False, **names
    )
