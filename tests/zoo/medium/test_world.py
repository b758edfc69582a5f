import random
import re

import numpy as np
import pytest

from evovlm.zoo import _corpus as small
from evovlm.zoo._corpus import Example, draw
from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.medium import _corpus as corpus
from evovlm.zoo.medium._glyphs import ROWS, dots
from evovlm.zoo.medium._scenes import CARD, WORDS, Scene, Thing, describe, sample_scene
from evovlm.zoo.medium.plan import medium_plan
from evovlm.zoo.medium.questions import KINDS, PLAIN, WILD, facts, sample_questions
from evovlm.zoo.medium.render import SIDE, SKETCHES, render
from evovlm.zoo.splits import split_of

JAPANESE_ONLY = [word for found in JAPANESE_THINGS.values() for word in (found.name, found.lore)]
SPLITS = ("train", "search", "validation", "test")


def scenes(count: int, seed: str = "world") -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, "train") for _ in range(count)]


def pixels(*things: Thing) -> np.ndarray:
    return np.asarray(render(Scene(things)), dtype=int)


def test_a_scene_belongs_to_one_split_and_training_sees_its_own_alone():
    seen = {split: {item.scene.canonical for item in sample_questions(split, 60, 0, PLAIN)} for split in SPLITS}
    assert all({split_of(scene) for scene in found} == {split} for split, found in seen.items())
    taught = [example.scene for example in draw(corpus.vlm_mixture(), 200, "split") if example.scene]
    assert {split_of(scene.canonical) for scene in taught} == {"train"}


def test_jitter_moves_no_scene_to_another_split():
    still = Thing("star", 4, "red")
    moved = Thing("star", 4, "red", shift=(0.1, 0.1), scale=0.9)
    assert Scene((still,)).canonical == Scene((moved,)).canonical


def test_what_stands_in_front_is_content():
    behind, front = Thing("star", 4, "red"), Thing("circle", 4, "blue", front=True)
    assert Scene((behind, front)).canonical != Scene((behind, Thing("circle", 4, "blue"))).canonical


def test_the_same_scene_gives_the_same_pixels():
    for scene in scenes(20):
        assert render(scene).size == (SIDE, SIDE)
        assert render(scene).tobytes() == render(scene).tobytes()


def test_every_look_is_drawn_and_differs_from_every_other():
    looks = [(look, "") for look in JAPANESE_THINGS] + [
        (look, "red") for look in ("circle", "square", "triangle", "star")
    ]
    drawn = {pixels(Thing(look, 4, colour)).tobytes() for look, colour in looks}
    assert len(drawn) == len(looks)
    assert set(SKETCHES) == set(JAPANESE_THINGS)
    assert pixels().tobytes() not in drawn


def test_cards_of_different_texts_look_different():
    texts = [*WORDS, *map(str, range(10, 100))]
    assert len({pixels(Thing(CARD, 4, text=text)).tobytes() for text in texts}) == len(texts)


def test_no_two_glyphs_are_alike_but_o_and_zero_which_never_share_a_text():
    assert len(set(ROWS.values())) == len(ROWS)
    assert dots("I")[:3] == [(0, 0), (1, 0), (2, 0)]
    assert min(column for column, _ in dots("1I") if column > 3) == 4


def test_a_thing_in_front_covers_a_part_of_the_one_behind_and_not_all_of_it():
    rng = random.Random(3)
    stacks = [pair for scene in (sample_scene(rng, "train") for _ in range(200)) for pair in scene.stacks()]
    assert len(stacks) > 20
    for behind, front in stacks:
        paper, alone, both = pixels(), pixels(behind), pixels(behind, front)
        mine = (alone != paper).any(axis=-1)
        covered = mine & (both != alone).any(axis=-1)
        if behind.colour != front.colour:
            assert 0 < covered.sum() < 0.9 * mine.sum()


def test_neighbours_overlap_now_and_then():
    def area(*things: Thing) -> int:
        return int((pixels(*things) != pixels()).any(axis=-1).sum())

    crowds = [scene for scene in scenes(60) if len(scene.things) >= 7]
    assert any(area(*scene.things) < sum(area(thing) for thing in scene.things) for scene in crowds)


def test_a_question_has_one_answer_in_its_scene():
    for scene in scenes(300):
        for language in ("en", "ja"):
            told: dict[str, str] = {}
            for fact in facts(scene, tuple(KINDS)):
                answer = fact.answer[language, "polite"]
                # "What is at" and "what sort of thing" are asked in different words, so a question tells its answer.
                assert told.setdefault(fact.question[language], answer) == answer, fact.question[language]


def test_things_are_counted_to_nine_by_hand():
    nine = Scene(tuple(Thing("star", cell, "red") for cell in range(9)))
    (fact,) = facts(nine, ("count",))
    assert (fact.answer["en", "terse"], fact.answer["ja", "polite"]) == ("nine", "九つです")
    asked = [item.references[0] for item in sample_questions("search", 200, 0, ("count",))]
    assert {f"{number}つです" for number in "一二三四五六七八九"} == set(asked)


def test_answers_are_right_by_hand():
    scene = Scene(
        (Thing("torii", 0), Thing("circle", 1, "red"), Thing("star", 1, "blue", front=True), Thing(CARD, 3, text="42"))
    )
    told = {fact.question["ja"]: fact.answer["ja", "polite"] for fact in facts(scene, tuple(KINDS))}
    assert told["左上に何がありますか。"] == "鳥居です"
    assert told["鳥居はどこですか。"] == "左上です"
    assert told["鳥居の下に何がありますか。"] == "42の札です"
    assert told["左上の物はどんな物ですか。"] == "神社の入り口です"
    assert told["赤い丸の手前に何がありますか。"] == "青い星です"
    assert told["青い星の後ろに何がありますか。"] == "赤い丸です"
    assert told["札に何と書いてありますか。"] == "42です"
    assert "上に何がありますか。" not in told  # two things share that cell
    assert describe(scene, "en") == "red gate top left, red circle top, before it blue star, card saying 42 left"
    assert describe(scene, "ja", named=True).startswith("左上に鳥居、上に赤い丸、その手前に青い星")
    assert describe(scene, "ja").startswith("左上に赤い門")


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_asked_and_says_its_name(kind: str):
    rng = random.Random(kind)
    found = [fact for _ in range(200) for fact in KINDS[kind](sample_scene(rng, "train"))]
    assert found
    assert {fact.kind for fact in found} == {kind}


def test_wild_questions_or_their_answers_name_or_tell_a_japanese_thing():
    for item in sample_questions("search", 100, 0, WILD):
        assert any(word in item.question + item.references[0] for word in JAPANESE_ONLY), item


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Example]]:
    stages = medium_plan().stages
    return {name: draw(stage.mixture(), 2000, "names") for name, stage in stages.items()}


def test_japanese_names_occur_in_wholly_japanese_texts_alone(drawn: dict[str, list[Example]]):
    for name, examples in drawn.items():
        for example in examples:
            text = example.prompt + example.answer
            if any(word in text for word in JAPANESE_ONLY):
                assert not re.search("[a-z]", text), f"{name}: {text}"
                assert example.scene is None, f"{name}: {text}"
    text = "".join(example.prompt + example.answer for example in drawn["ja"])
    assert all(word in text for word in JAPANESE_ONLY)


def test_looks_name_nothing_in_either_language():
    for found in JAPANESE_THINGS.values():
        assert not any(word in found.looks + found.looks_ja + found.sort for word in JAPANESE_ONLY)


def test_whoever_sees_is_taught_english_and_a_few_terse_japanese_answers(drawn: dict[str, list[Example]]):
    assert all(example.scene is not None for example in drawn["align"] + drawn["vlm"])
    assert all(example.prompt.isascii() for example in drawn["align"])
    japanese = [example for example in drawn["vlm"] if not example.prompt.isascii()]
    assert 0.01 < len(japanese) / len(drawn["vlm"]) < 0.06
    assert not any(example.answer.endswith("です") for example in japanese)


def test_the_maths_tunes_learn_what_the_small_zoos_do():
    stages = medium_plan().stages
    assert (stages["math"].mixture, stages["math2"].mixture) == (small.math_mixture, small.math2_mixture)
