"""The sizes of a rehearsal: shapes of the models, and numbers of pictures, questions and candidates.

Knows numbers only. 7b has the shapes of Mistral-7B and of LLaVA-1.6-Mistral-7B, and Visual Genome's pictures; zoo is
small enough for a test on a laptop.
"""

from __future__ import annotations

from dataclasses import dataclass

from evovlm_benchmarks.merge_speed import SCALES, Scale
from evovlm_benchmarks.speed.full_size import FULL_EYES, SMALL_EYES, Eyes


@dataclass(frozen=True)
class Size:
    """The amount of work of a rehearsal.

    tower: of all models; the VLM has `added` more vocabulary rows. eyes: its vision tower. shards: weight files of a
    language model; the VLM has two more. photos: pictures of the search set, each with eight questions; side: their
    longer one, in pixels. test: pictures of the test set, each with one question. trials: of a search. questions: of a
    search with one question per picture, and `judged` that choose and test its winner; several: of a search with whole
    pictures, and `few` that judge its winner. tokens: the most an answer has. asked: questions of `bench run`.
    """

    tower: Scale
    eyes: Eyes
    shards: int
    photos: int
    side: int
    test: int
    trials: int
    questions: int
    several: int
    judged: int
    few: int
    tokens: int
    asked: int
    added: int = 64


SIZES = {
    "7b": Size(
        SCALES["7b"], FULL_EYES, shards=2, photos=400, side=500, test=60, trials=8, questions=64, several=256,
        judged=60, few=8, tokens=64, asked=16,
    ),
    "zoo": Size(
        Scale(64, 128, 2, 4, 2, 600), SMALL_EYES, shards=2, photos=12, side=80, test=6, trials=4, questions=8,
        several=16, judged=4, few=2, tokens=4, asked=2,
    ),
}  # fmt: skip
