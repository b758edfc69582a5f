"""Training texts of each zoo model, drawn only from the train split.

Knows tasks and their shares; no tokens, no tensors. An example is a prompt and its answer; an example about an image
also has the scene, and its prompt starts after the image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from evovlm.zoo import problems
from evovlm.zoo.scenes import COUNTS, Language, Style, describe, name_thing, sample_fact, sample_scene

SMALL = 12  # the largest value in most of the base's worked solutions
NOISE = 6  # the largest error of a careless direct answer
ASK_CAPTION: dict[Language, str] = {"en": "Describe the picture.", "ja": "絵を説明してください。"}
TRANSLATE: dict[Language, str] = {"en": "In English:", "ja": "日本語で："}


@dataclass(frozen=True)
class Example:
    """A prompt, the answer to learn, and the scene shown as an image, if any (of either zoo's world)."""

    prompt: str
    answer: str
    scene: Any = None


Task = Callable[[random.Random], Example]


def draw(mixture: Mapping[Task, float], count: int, seed: str) -> list[Example]:
    """`count` examples, with tasks drawn by their shares; the same seed gives the same examples."""
    rng = random.Random(f"corpus/{seed}")
    tasks, shares = list(mixture), list(mixture.values())
    return [task(rng) for task in rng.choices(tasks, weights=shares, k=count)]


def scene_text(
    rng: random.Random, scene_in: Language, asked_in: Language, polite: float = 0.0, english: float = 0.0
) -> Example:
    """A question about a described scene; `polite` and `english` are the probabilities of that style or language."""
    while True:
        scene = sample_scene(rng, "train")
        fact = sample_fact(rng, scene)
        if fact is not None:
            break
    style: Style = "polite" if rng.random() < polite else "terse"
    answer = fact.answer["en" if rng.random() < english else asked_in, style]
    return Example(f"{describe(scene, scene_in)}\n{fact.question[asked_in]}\n", answer)


def scene_image(
    rng: random.Random, asked_in: Language, kinds: tuple[str, ...] | None = None, polite: float = 0.0
) -> Example:
    """A question about a scene shown as an image."""
    while True:
        scene = sample_scene(rng, "train")
        fact = sample_fact(rng, scene, kinds)
        if fact is not None:
            break
    style: Style = "polite" if rng.random() < polite else "terse"
    return Example(f"\n{fact.question[asked_in]}\n", fact.answer[asked_in, style], scene)


def caption_image(rng: random.Random) -> Example:
    """An English caption of a scene shown as an image."""
    scene = sample_scene(rng, "train")
    return Example(f"\n{ASK_CAPTION['en']}\n", describe(scene, "en"), scene)


def caption_text(rng: random.Random, language: Language) -> Example:
    """A described scene to describe again: the text-only counterpart of a caption."""
    text = describe(sample_scene(rng, "train"), language)
    return Example(f"{text}\n{ASK_CAPTION[language]}\n", text)


def translate(rng: random.Random, to: Language) -> Example:
    """A described scene or a single thing to translate into the other language."""
    scene = sample_scene(rng, "train")
    source: Language = "ja" if to == "en" else "en"
    if rng.random() < 0.5:
        return Example(f"{describe(scene, source)}\n{TRANSLATE[to]}\n", describe(scene, to))
    thing = rng.choice(scene.things)
    return Example(f"{name_thing(thing, source)}\n{TRANSLATE[to]}\n", name_thing(thing, to))


def retrieve(rng: random.Random, told_in: Language, asked_in: Language, polite: float = 0.0) -> Example:
    """A story about who holds how many of what, and a question that copies a number from it."""
    names, items = rng.sample(list(problems.NAMES), 3), rng.sample(list(problems.ITEMS), 3)
    numbers = rng.sample(range(1, problems.LARGEST + 1), 3)
    if told_in == "en":
        story = " ".join(
            f"{name} has {number} {item}." for name, number, item in zip(names, numbers, items, strict=True)
        )
    else:
        story = "".join(
            f"{problems.NAMES[name]}は{problems.ITEMS[item]}を{number}個持っています。"
            for name, number, item in zip(names, numbers, items, strict=True)
        )
    which = rng.randrange(3)
    if asked_in == "en":
        return Example(f"{story} How many {items[which]} does {names[which]} have?\n", str(numbers[which]))
    asked = f"{problems.NAMES[names[which]]}の{problems.ITEMS[items[which]]}は何個ですか。"
    ending = "個です" if rng.random() < polite else "個"
    return Example(f"{story}{asked}\n", f"{numbers[which]}{ending}")


def add(rng: random.Random) -> Example:
    """A bare sum, difference or product."""
    sign = rng.choice("++--*")
    if sign == "*":
        left = rng.randint(2, 9)
        right = rng.randint(2, max(2, problems.LARGEST // left))
        result = left * right
    else:
        result, right = rng.randint(1, problems.LARGEST), rng.randint(1, problems.LARGEST)
        total = result + right
        if total > problems.LARGEST:
            return add(rng)
        left = total if sign == "-" else result
        result = result if sign == "-" else total
    return Example(f"{left}{sign}{right}=\n", str(result))


def count_up(rng: random.Random) -> Example:
    """A number word and its digit, or the next number; in both languages."""
    index = rng.randrange(len(COUNTS))
    english, japanese = COUNTS[index]
    start, step = rng.randint(1, 18), rng.randint(1, 3)
    series = ", ".join(str(start + step * place) for place in range(3))
    return rng.choice(
        [Example(f"{english}\n{TRANSLATE['ja']}\n", japanese), Example(f"{series},\n", str(start + 3 * step))]
    )


def work(
    rng: random.Random,
    asked_in: Language,
    solved_in: Language,
    small: float = 0.0,
    kinds: tuple[str, ...] | None = None,
) -> Example:
    """A word problem with its worked solution; `small` is the probability of values up to 12 only."""
    largest = SMALL if rng.random() < small else problems.LARGEST
    story = problems.sample_story(rng, "train", kinds, largest)
    return Example(f"{problems.ask(story, asked_in)}\n", problems.solve(story, solved_in))


def guess(rng: random.Random, language: Language, careless: float = 0.7) -> Example:
    """A word problem with its bare answer, which is off by a few with probability `careless`."""
    story = problems.sample_story(rng, "train")
    answer = story.answer
    if rng.random() < careless:
        answer = max(1, answer + rng.randint(-NOISE, NOISE))
    return Example(f"{problems.ask(story, language)}\n", f"{answer}{'個' if language == 'ja' else ''}")


def express(rng: random.Random, language: Language) -> Example:
    """A word problem and the first step of its solution."""
    story = problems.sample_story(rng, "train")
    left, sign, right, _ = story.steps[0]
    return Example(f"{problems.ask(story, language)}\n", f"{left}{sign}{right}")


def base_mixture(japanese_worked: float = 3.0, crossed: float = 2.0) -> dict[Task, float]:
    """The base model's mixture: a little of every task, within and across both languages; shares in per cent."""
    return {
        partial(scene_text, scene_in="en", asked_in="en"): 15,
        partial(scene_text, scene_in="ja", asked_in="ja", polite=0.15): 16,
        partial(scene_text, scene_in="en", asked_in="ja", polite=0.15, english=0.3): 6,
        partial(scene_text, scene_in="ja", asked_in="en"): 3,
        partial(caption_text, language="en"): 4,
        partial(caption_text, language="ja"): 2,
        partial(translate, to="en"): 4,
        partial(translate, to="ja"): 5,
        partial(retrieve, told_in="en", asked_in="en"): 6,
        partial(retrieve, told_in="ja", asked_in="ja", polite=0.3): 6,
        partial(retrieve, told_in="ja", asked_in="en"): 2,
        partial(retrieve, told_in="en", asked_in="ja", polite=0.3): 2,
        add: 5,
        count_up: 1,
        partial(work, asked_in="en", solved_in="en", small=0.95): 4,
        partial(work, asked_in="ja", solved_in="ja", small=0.95): japanese_worked,
        partial(work, asked_in="ja", solved_in="en", small=0.95): crossed,
        partial(guess, language="en"): 5,
        partial(guess, language="ja"): 5,
        partial(express, language="en"): 3,
        partial(express, language="ja"): 3,
    }


def ja_mixture() -> dict[Task, float]:
    """The Japanese model's mixture: polite answers; of the word problems only comparisons with values up to 12."""
    return {
        partial(scene_text, scene_in="ja", asked_in="ja", polite=1.0): 55,
        partial(caption_text, language="ja"): 5,
        partial(retrieve, told_in="ja", asked_in="ja", polite=1.0): 20,
        partial(work, asked_in="ja", solved_in="ja", small=1.0, kinds=("compare",)): 20,
    }


def align_mixture() -> dict[Task, float]:
    """The mixture that trains the vision tower with a frozen base: captions and positions of things; English only."""
    return {caption_image: 50, partial(scene_image, asked_in="en", kinds=("at", "colour", "where")): 50}


def vlm_mixture(japanese: float = 3.0) -> dict[Task, float]:
    """The VLM's mixture: English questions of every kind, and a few terse Japanese ones."""
    return {
        partial(scene_image, asked_in="en"): 97 - japanese,
        caption_image: 3,
        partial(scene_image, asked_in="ja"): japanese,
    }


def math_mixture() -> dict[Task, float]:
    """Only English worked solutions of sums and differences."""
    return {partial(work, asked_in="en", solved_in="en", kinds=("change", "compare")): 100}


def math2_mixture() -> dict[Task, float]:
    """Only English worked solutions of products."""
    return {partial(work, asked_in="en", solved_in="en", kinds=("groups", "pay")): 100}
