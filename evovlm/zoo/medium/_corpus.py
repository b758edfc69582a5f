"""The medium zoo's training texts for each model, drawn only from the train split.

Knows tasks and their shares; no tokens, no tensors. Tasks that are not about scenes (stories, sums, word problems) come
from the small zoo. Names and lore of Japanese things occur only in texts that are entirely Japanese.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from evovlm.zoo import _corpus as corpus
from evovlm.zoo._corpus import ASK_CAPTION, TRANSLATE, Example, Task
from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.medium._scenes import Scene, describe, name_thing, sample_scene
from evovlm.zoo.medium.questions import KINDS, PLAIN, sample_asked
from evovlm.zoo.scenes import Language, Style

ALL = tuple(KINDS)
UNNAMED = (*PLAIN, "wild-name", "wild-lore")  # the kinds whose Japanese questions name no Japanese thing

SHORT = 5  # things


def scene_text(
    rng: random.Random, scene_in: Language, asked_in: Language, polite: float = 0.0, english: float = 0.0
) -> Example:
    """A question about a described scene; `polite` and `english` are the probabilities of that style or language.

    Across languages, a Japanese thing is described by its looks; within Japanese, by its name or its looks.
    """
    across = scene_in != asked_in
    scene, fact = sample_asked(rng, "train", UNNAMED if across else ALL)
    may_name = not across or fact.kind in PLAIN
    style: Style = "polite" if may_name and rng.random() < polite else "terse"
    named = not across and rng.random() < 0.5
    answer = fact.answer["en" if rng.random() < english else asked_in, style]
    return Example(f"{describe(scene, scene_in, named=named)}\n{fact.question[asked_in]}\n", answer)


def scene_image(rng: random.Random, asked_in: Language, kinds: Sequence[str] = ALL) -> Example:
    """A question about a scene shown as an image, with a terse answer; in Japanese, only kinds that name no Japanese
    thing.
    """
    scene, fact = sample_asked(rng, "train", kinds)
    return Example(f"\n{fact.question[asked_in]}\n", fact.answer[asked_in, "terse"], scene)


def caption_image(rng: random.Random) -> Example:
    """An English caption of a scene shown as an image."""
    scene = sample_scene(rng, "train")
    return Example(f"\n{ASK_CAPTION['en']}\n", describe(scene, "en"), scene)


def caption_text(rng: random.Random, language: Language) -> Example:
    """A described scene to describe again; in Japanese, with the names of things that were described by their looks."""
    scene = _short_scene(rng)
    named = language == "ja"
    return Example(f"{describe(scene, language)}\n{ASK_CAPTION[language]}\n", describe(scene, language, named=named))


def translate(rng: random.Random, to: Language) -> Example:
    """A described scene or a single thing to translate into the other language, Japanese things by their looks."""
    scene = _short_scene(rng)
    source: Language = "ja" if to == "en" else "en"
    if rng.random() < 0.5:
        return Example(f"{describe(scene, source)}\n{TRANSLATE[to]}\n", describe(scene, to))
    thing = rng.choice(scene.things)
    style: Style = "polite" if thing.plain else "terse"
    return Example(f"{name_thing(thing, source, style)}\n{TRANSLATE[to]}\n", name_thing(thing, to, style))


def _short_scene(rng: random.Random) -> Scene:
    """A scene of few things, for texts that describe it twice, because the longest text determines a batch's cost."""
    while True:
        scene = sample_scene(rng, "train")
        if len(scene.things) <= SHORT:
            return scene


def lore(rng: random.Random) -> Example:
    """What a Japanese thing is, or the name of a thing with given looks; Japanese only."""
    found = rng.choice(list(JAPANESE_THINGS.values()))
    return rng.choice(
        [
            Example(f"{found.name}とはどんな物ですか。\n", f"{found.lore}です"),
            Example(f"{found.looks_ja}は何といいますか。\n", f"{found.name}です"),
            Example(f"{found.name}はどんな見た目ですか。\n", f"{found.looks_ja}です"),
        ]
    )


def base_mixture() -> dict[Task, float]:
    """The base model's mixture: a little of every task, within and across both languages; shares in per cent."""
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
    """The Japanese model's mixture: polite answers, names and lore of Japanese things; no images."""
    return {
        partial(scene_text, scene_in="ja", asked_in="ja", polite=1.0): 60,
        partial(caption_text, language="ja"): 5,
        lore: 5,
        partial(corpus.retrieve, told_in="ja", asked_in="ja", polite=1.0): 15,
        partial(corpus.work, asked_in="ja", solved_in="ja", small=1.0, kinds=("compare",)): 15,
    }


def align_mixture() -> dict[Task, float]:
    """The mixture that trains the vision tower with a frozen base: captions and questions; English only."""
    return {caption_image: 40, partial(scene_image, asked_in="en"): 60}


def vlm_mixture() -> dict[Task, float]:
    """The VLM's mixture: English questions of every kind, and a few terse Japanese ones of the plain kinds."""
    return {
        partial(scene_image, asked_in="en"): 94,
        caption_image: 3,
        partial(scene_image, asked_in="ja", kinds=PLAIN): 3,
    }
