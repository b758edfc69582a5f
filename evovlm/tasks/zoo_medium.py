"""Japanese questions about the medium zoo's scenes: things that every language names, and things only Japanese names.

Knows the medium zoo's scenes, no models. An item's id includes its kind, so that scores can be reported by kind.
"""

from __future__ import annotations

from functools import partial

from evovlm.tasks._marking import mark_words
from evovlm.tasks._scene_answers import reworded, says_right
from evovlm.tasks.made_task import MadeTask, refuse_choices
from evovlm.tasks.options import Options
from evovlm.tasks.protocol import Generation, Item, Task
from evovlm.zoo.medium.questions import PLAIN, WILD, sample_questions
from evovlm.zoo.medium.render import render
from evovlm.zoo.prompts import MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.splits import kind_of


def zoo_medium_vqa(options: Options) -> Task:
    """Places, colours, counts to nine, overlaps, written cards. Raises DataError if given a data path or a preset."""
    return _task("zoo-medium-vqa", PLAIN, options)


def zoo_medium_wild(options: Options) -> Task:
    """Japanese things by their names and lore. Raises DataError if given a data path or a preset."""
    return _task("zoo-medium-wild", WILD, options)


def _task(name: str, kinds: tuple[str, ...], options: Options) -> Task:
    refuse_choices(name, options)

    def make(split: str, count: int, seed: int) -> list[Item]:
        asked = sample_questions(split, count, seed, kinds)  # type: ignore[arg-type]
        return [
            Item(found.id, found.question, found.references, partial(render, found.scene), kind_of(found.id))
            for found in asked
        ]

    return MadeTask(
        name=name,
        generation=Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA),
        make=make,
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
        judged={"language": options.detector},
        right=says_right,
        restyled=reworded,
    )
