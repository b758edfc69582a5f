"""Word problems in two languages with worked solutions: one or two steps, values up to 30.

Knows words and arithmetic; no tokenizer, no model. The split depends on kind and numbers, so a held-out problem's
calculation never occurs in training in the same kind of story.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evovlm.zoo.splits import Split, digest, split_of

Language = Literal["ja", "en"]

NAMES = {"Ken": "健", "Mia": "花", "Tom": "太郎", "Ann": "杏"}
ITEMS = {"apples": "りんご", "pens": "ペン", "stones": "石", "cards": "カード", "eggs": "卵"}
LARGEST = 30


@dataclass(frozen=True)
class WordProblem:
    """A problem and its answer, a number as text."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Story:
    """A problem before wording: its kind, numbers, steps, people and things."""

    kind: str
    numbers: tuple[int, ...]
    steps: tuple[tuple[int, str, int, int], ...]  # (left, sign, right, result)
    name: str
    other: str
    item: str

    @property
    def canonical(self) -> str:
        """The text that determines the split: kind and numbers, not the words."""
        return f"{self.kind} {' '.join(map(str, self.numbers))}"

    @property
    def answer(self) -> int:
        """The last step's result."""
        return self.steps[-1][3]

    @property
    def largest(self) -> int:
        """The largest number of question and solution."""
        return max(*self.numbers, *(step[3] for step in self.steps))


def sample_story(
    rng: random.Random, split: Split, kinds: tuple[str, ...] | None = None, largest: int = LARGEST
) -> Story:
    """Draw stories until one belongs to the split and has all values between 1 and `largest`."""
    while True:
        kind = rng.choice(kinds or tuple(KINDS))
        numbers = NUMBERS[kind](rng)
        steps = tuple(STEPS[kind](*numbers))
        name, other = rng.sample(list(NAMES), 2)
        story = Story(kind, numbers, steps, name, other, rng.choice(list(ITEMS)))
        fits = all(1 <= step[3] <= largest for step in steps) and story.largest <= largest
        if fits and split_of(story.canonical) == split:
            return story


def ask(story: Story, language: Language) -> str:
    """The problem in words."""
    words = (story.name, story.other, story.item)
    if language == "ja":
        words = (NAMES[story.name], NAMES[story.other], ITEMS[story.item])
    return KINDS[story.kind][language](*words, *story.numbers)


def solve(story: Story, language: Language) -> str:
    """The worked solution; the last number is the answer."""
    sums = [f"{left}{sign}{right}={result}" for left, sign, right, result in story.steps]
    if language == "en":
        return ", ".join([*sums, f"answer {story.answer}"])
    return "、".join([*sums, f"答えは{say_answer(story, 'ja')}"])


def say_answer(story: Story, language: Language) -> str:
    """The bare answer: a number, in Japanese with its counter and a polite ending."""
    counter = "円" if story.kind == "pay" else "個"
    return f"{story.answer}{counter}です" if language == "ja" else str(story.answer)


def sample_problems(split: Split, count: int, seed: int, language: Language = "ja") -> list[WordProblem]:
    """`count` different problems of one split; the same for the same arguments. Ids depend only on content."""
    rng = random.Random(f"problems/{split}/{seed}")
    found: dict[str, WordProblem] = {}
    while len(found) < count:
        story = sample_story(rng, split)
        name = f"{split}-{story.kind}-{digest(ask(story, 'en'))}"
        problem = WordProblem(name, ask(story, language), str(story.answer))
        found.setdefault(name, problem)
    return list(found.values())


def _change_en(name: str, other: str, item: str, start: int, gain: int, loss: int) -> str:
    return f"{name} has {start} {item}, gets {gain} and gives away {loss}. How many {item} are left?"


def _change_ja(name: str, other: str, item: str, start: int, gain: int, loss: int) -> str:
    return f"{name}は{item}を{start}個持ち、{gain}個もらい、{loss}個あげました。残りは何個ですか。"


def _compare_en(name: str, other: str, item: str, first: int, more: int) -> str:
    return f"{name} has {first} {item} and {other} has {more} more. How many {item} do both have?"


def _compare_ja(name: str, other: str, item: str, first: int, more: int) -> str:
    return f"{name}は{item}を{first}個、{other}は{more}個多く持っています。二人で何個ですか。"


def _groups_en(name: str, other: str, item: str, bags: int, each: int, loss: int) -> str:
    return f"{name} has {bags} bags of {each} {item} and loses {loss}. How many {item} are left?"


def _groups_ja(name: str, other: str, item: str, bags: int, each: int, loss: int) -> str:
    return f"{name}は{each}個入りの{item}を{bags}袋持ち、{loss}個失いました。残りは何個ですか。"


def _pay_en(name: str, other: str, item: str, paid: int, count: int, price: int) -> str:
    return f"{name} buys {count} {item} at {price} yen and pays {paid} yen. How much is the change?"


def _pay_ja(name: str, other: str, item: str, paid: int, count: int, price: int) -> str:
    return f"{name}は{price}円の{item}を{count}個買い、{paid}円払いました。おつりは何円ですか。"


def _numbers(*ranges: tuple[int, int]) -> Callable[[random.Random], tuple[int, ...]]:
    return lambda rng: tuple(rng.randint(low, high) for low, high in ranges)


KINDS: dict[str, dict[Language, Callable[..., str]]] = {
    "change": {"en": _change_en, "ja": _change_ja},
    "compare": {"en": _compare_en, "ja": _compare_ja},
    "groups": {"en": _groups_en, "ja": _groups_ja},
    "pay": {"en": _pay_en, "ja": _pay_ja},
}
NUMBERS: dict[str, Callable[[random.Random], tuple[int, ...]]] = {
    "change": _numbers((2, 25), (2, 15), (2, 25)),
    "compare": _numbers((2, 14), (1, 20)),
    "groups": _numbers((2, 6), (2, 9), (1, 20)),
    "pay": _numbers((6, 30), (2, 6), (2, 9)),
}
STEPS: dict[str, Callable[..., list[tuple[int, str, int, int]]]] = {
    "change": lambda a, b, c: [(a, "+", b, a + b), (a + b, "-", c, a + b - c)],
    "compare": lambda a, b: [(a, "+", b, a + b), (a, "+", a + b, a + a + b)],
    "groups": lambda g, n, c: [(g, "*", n, g * n), (g * n, "-", c, g * n - c)],
    "pay": lambda p, n, y: [(n, "*", y, n * y), (p, "-", n * y, p - n * y)],
}
