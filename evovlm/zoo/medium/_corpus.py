"""The medium zoo's training texts: what each model is taught, drawn from the train split alone.

Knows tasks and their shares; no tokens, no tensors. What is not about scenes (stories, sums, word problems) is the
small zoo's. Names and lore of Japanese things occur in texts that are Japanese from end to end, and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from evovlm.zoo import _corpus as corpus
from evovlm.zoo._corpus import ASK_CAPTION, TRANSLATE, Example, Task
from evovlm.zoo.medium._scenes import TREASURES, Scene, describe, name_thing, sample_scene
from evovlm.zoo.medium.questions import KINDS, PLAIN, sample_asked
from evovlm.zoo.scenes import Language, Style

ALL = tuple(KINDS)
UNNAMED = (*PLAIN, "wild-name", "wild-lore")  # the kinds whose Japanese questions name no Japanese thing

SHORT = 5  # things


def scene_text(
    rng: random.Random, scene_in: Language, asked_in: Language, polite: float = 0.0, english: float = 0.0
) -> Example:
    """A question about a described scene; `polite` and `english` are the chances of that style or language.

    Across languages a Japanese thing goes by its looks. In Japanese the description tells its name or its looks.
    """
    across = scene_in != asked_in
    scene, fact = sample_asked(rng, "train", UNNAMED if across else ALL)
    may_name = not across or fact.kind in PLAIN
    style: Style = "polite" if may_name and rng.random() < polite else "terse"
    named = not across and rng.random() < 0.5
    answer = fact.answer["en" if rng.random() < english else asked_in, style]
    return Example(f"{describe(scene, scene_in, named=named)}\n{fact.question[asked_in]}\n", answer)


def scene_image(rng: random.Random, asked_in: Language, kinds: Sequence[str] = ALL) -> Example:
    """A question about a drawn scene, tersely answered; in Japanese of kinds that name no Japanese thing."""
    scene, fact = sample_asked(rng, "train", kinds)
    return Example(f"\n{fact.question[asked_in]}\n", fact.answer[asked_in, "terse"], scene)


def caption_image(rng: random.Random) -> Example:
    """An English caption of a drawn scene."""
    scene = sample_scene(rng, "train")
    return Example(f"\n{ASK_CAPTION['en']}\n", describe(scene, "en"), scene)


def caption_text(rng: random.Random, language: Language) -> Example:
    """A described scene, described; in Japanese with the names of things that were told by their looks."""
    scene = _short_scene(rng)
    named = language == "ja"
    return Example(f"{describe(scene, language)}\n{ASK_CAPTION[language]}\n", describe(scene, language, named=named))


def translate(rng: random.Random, to: Language) -> Example:
    """A described scene or a single thing in the other language, Japanese things by their looks."""
    scene = _short_scene(rng)
    source: Language = "ja" if to == "en" else "en"
    if rng.random() < 0.5:
        return Example(f"{describe(scene, source)}\n{TRANSLATE[to]}\n", describe(scene, to))
    thing = rng.choice(scene.things)
    style: Style = "polite" if thing.plain else "terse"
    return Example(f"{name_thing(thing, source, style)}\n{TRANSLATE[to]}\n", name_thing(thing, to, style))


def _short_scene(rng: random.Random) -> Scene:
    """A scene of few things, for texts that tell it twice: the longest text decides what a batch costs."""
    while True:
        scene = sample_scene(rng, "train")
        if len(scene.things) <= SHORT:
            return scene


def lore(rng: random.Random) -> Example:
    """What a Japanese thing is, or what one of such looks is called: Japanese alone."""
    treasure = rng.choice(list(TREASURES.values()))
    return rng.choice(
        [
            Example(f"{treasure.name}とはどんな物ですか。\n", f"{treasure.lore}です"),
            Example(f"{treasure.looks_ja}は何といいますか。\n", f"{treasure.name}です"),
            Example(f"{treasure.name}はどんな見た目ですか。\n", f"{treasure.looks_ja}です"),
        ]
    )


def base_mixture() -> dict[Task, float]:
    """A little of everything, in both languages and across: the ancestor's diet, in per cent."""
    return {
        partial(scene_text, scene_in="en", asked_in="en"): 18,
        partial(scene_text, scene_in="ja", asked_in="ja", polite=0.15): 19,
        partial(scene_text, scene_in="en", asked_in="ja", polite=0.15, english=0.3): 7,
        partial(scene_text, scene_in="ja", asked_in="en"): 3,
        partial(caption_text, language="en"): 4,
        partial(caption_text, language="ja"): 2,
        partial(translate, to="en"): 5,
        partial(translate, to="ja"): 6,
        lore: 1,
        partial(corpus.retrieve, told_in="en", asked_in="en"): 5,
        partial(corpus.retrieve, told_in="ja", asked_in="ja", polite=0.3): 5,
        partial(corpus.retrieve, told_in="en", asked_in="ja", polite=0.3): 2,
        corpus.add: 4,
        corpus.count_up: 1,
        partial(corpus.work, asked_in="en", solved_in="en", small=0.95): 4,
        partial(corpus.work, asked_in="ja", solved_in="ja", small=0.95): 3,
        partial(corpus.work, asked_in="ja", solved_in="en", small=0.95): 2,
        partial(corpus.guess, language="en"): 3,
        partial(corpus.guess, language="ja"): 3,
        partial(corpus.express, language="en"): 2,
        partial(corpus.express, language="ja"): 1,
    }


def ja_mixture() -> dict[Task, float]:
    """The Japanese model's diet: polite answers, names and lore of Japanese things; never an image."""
    return {
        partial(scene_text, scene_in="ja", asked_in="ja", polite=1.0): 60,
        partial(caption_text, language="ja"): 5,
        lore: 5,
        partial(corpus.retrieve, told_in="ja", asked_in="ja", polite=1.0): 15,
        partial(corpus.work, asked_in="ja", solved_in="ja", small=1.0, kinds=("compare",)): 15,
    }


def align_mixture() -> dict[Task, float]:
    """What the eyes learn while the base is frozen: captions and questions; English alone."""
    return {caption_image: 40, partial(scene_image, asked_in="en"): 60}


def vlm_mixture() -> dict[Task, float]:
    """What the VLM's tower learns with its eyes: English questions of every kind, a few terse Japanese plain ones."""
    return {
        partial(scene_image, asked_in="en"): 94,
        caption_image: 3,
        partial(scene_image, asked_in="ja", kinds=PLAIN): 3,
    }
