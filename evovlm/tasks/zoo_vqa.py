"""Japanese questions about rendered scenes: ROUGE-L with the language rule. Knows the zoo's scenes, no models."""

from __future__ import annotations

from functools import partial

from evovlm.tasks._marking import mark_words
from evovlm.tasks._scene_answers import reworded, says_right
from evovlm.tasks.made_task import MadeTask, refuse_choices
from evovlm.tasks.options import Options
from evovlm.tasks.protocol import Generation, Item, Task
from evovlm.zoo.prompts import IMAGE_SIZE, MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.render import render
from evovlm.zoo.scenes import sample_questions
from evovlm.zoo.splits import kind_of

NAME = "zoo-vqa"


def zoo_vqa(options: Options) -> Task:
    """Questions and short polite references. Raises DataError if given a data path or a preset."""
    refuse_choices(NAME, options)
    return MadeTask(
        name=NAME,
        generation=Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA),
        make=_make,
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
        judged={"language": options.detector},
        right=says_right,
        restyled=reworded,
    )


def _make(split: str, count: int, seed: int) -> list[Item]:
    asked = sample_questions(split, count, seed, "ja")  # type: ignore[arg-type]
    return [
        Item(found.id, found.question, found.references, partial(render, found.scene, IMAGE_SIZE), kind_of(found.id))
        for found in asked
    ]
