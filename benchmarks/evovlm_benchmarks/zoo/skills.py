"""The skills of small-zoo models: the share of items of each kind that a model answers exactly right.

Knows the small zoo's world and the engine; draws nothing. Items come from the test split, which is not in any training
data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item
from evovlm.tasks.metrics.language import is_japanese
from evovlm.tasks.metrics.numbers import extract_number, same_number
from evovlm.tasks.metrics.rouge import exact_match
from evovlm.zoo.problems import sample_problems
from evovlm.zoo.prompts import IMAGE_SIZE, LLM_PROMPT, MAX_NEW_TOKENS_MATHS, MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.render import render
from evovlm.zoo.scenes import Language, describe, sample_fact, sample_questions, sample_scene

Right = Callable[[Item, str], bool]


@dataclass(frozen=True)
class Skill:
    """One skill: `draw` makes a given number of items, `generation` is how they are asked, `right` checks an answer."""

    name: str
    draw: Callable[[int], list[Item]]
    generation: Generation
    right: Right


def seen(count: int, language: Language) -> list[Item]:
    """Questions about scenes shown as images."""
    return [
        Item(found.id, found.question, found.references, partial(render, found.scene, IMAGE_SIZE))
        for found in sample_questions("test", count, 0, language)
    ]


def told(count: int, language: Language) -> list[Item]:
    """The same kinds of question about scenes described in words."""
    rng = random.Random(f"told/{language}")
    items: dict[str, Item] = {}
    while len(items) < count:
        scene = sample_scene(rng, "test")
        fact = sample_fact(rng, scene)
        if fact is not None:
            text = f"{describe(scene, language)}\n{fact.question[language]}"
            items.setdefault(text, Item(text, text, (fact.answer[language, "polite"],), None))
    return list(items.values())


def reckoned(count: int, language: Language) -> list[Item]:
    """Word problems."""
    problems = sample_problems("test", count, 0, language)
    return [Item(found.id, found.question, (found.answer,), None) for found in problems]


def says(item: Item, answer: str) -> bool:
    """Whether the answer equals the reference (after normalisation)."""
    return exact_match(answer, item.references)


def counts(language: Language, item: Item, answer: str) -> bool:
    """Whether the answer's number is right and the answer is in the question's language."""
    right = same_number(extract_number(answer, "corrected"), item.references[0])
    return right and is_japanese(answer) == (language == "ja")


LOOK, READ = Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA), Generation(LLM_PROMPT, MAX_NEW_TOKENS_VQA)
RECKON = Generation(LLM_PROMPT, MAX_NEW_TOKENS_MATHS)
SKILLS = (
    Skill("pictures, English", partial(seen, language="en"), LOOK, says),
    Skill("pictures, Japanese", partial(seen, language="ja"), LOOK, says),
    Skill("scenes in words, English", partial(told, language="en"), READ, says),
    Skill("scenes in words, Japanese", partial(told, language="ja"), READ, says),
    Skill("word problems, English", partial(reckoned, language="en"), RECKON, partial(counts, "en")),
    Skill("word problems, Japanese", partial(reckoned, language="ja"), RECKON, partial(counts, "ja")),
)


def measure(folder: Path, count: int, batch: int = 150, skills: Sequence[Skill] = SKILLS) -> dict[str, float]:
    """The share of correct answers, in per cent, by skill. A language model is asked without the image."""
    engine = Engine.load(folder, dtype=torch.float32)
    shares = {}
    for skill in skills:
        items = skill.draw(count)
        answers = engine.answer(engine.prepare(items, skill.generation, batch))
        right = [skill.right(item, answer) for item, answer in zip(items, answers, strict=True)]
        shares[skill.name] = 100 * sum(right) / count
    return shares
