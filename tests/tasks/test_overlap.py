import io
from pathlib import Path

import pytest
from PIL import Image

from evovlm.tasks import Item, parse_split
from evovlm.tasks.overlap import find_overlap


def text(key: str, question: str) -> Item:
    return Item(key, question, ("1",), None)


def shown(key: str, image: Image.Image, question: str = "何ですか？") -> Item:
    return Item(key, question, ("1",), lambda: image)


def recoded(image: Image.Image, scale: float, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    size = (int(image.width * scale), int(image.height * scale))
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> list[Image.Image]:
    paths = [path for path in sorted((shared_data / "images").iterdir()) if path.suffix != ".txt"]
    return [Image.open(path).convert("RGB") for path in paths]


def test_a_picture_of_many_questions_is_opened_once():
    opened: list[int] = []

    def draw() -> Image.Image:
        opened.append(1)
        return Image.new("RGB", (64, 64), "red")

    asked = [Item(str(number), f"{number}?", ("1",), draw) for number in range(5)]
    assert len(find_overlap(asked, [shown("x", Image.new("RGB", (64, 64), "red"))])) == 5
    assert len(opened) == 1


def test_one_id_in_both_is_an_overlap():
    (found,) = find_overlap([text("a", "犬"), text("b", "猫の数は")], [text("b", "鳥がいます")])
    assert (found.kind, found.one, found.other) == ("id", "b", "b")


def test_widths_and_punctuation_hide_nothing():
    one = text("a", "健は石を12個持ち、さらに30個もらいました。全部で何個ですか。")
    other = text("b", "健は石を１２個持ち さらに３０個もらいました！ 全部で何個ですか？")
    (found,) = find_overlap([one], [other])
    assert (found.kind, found.likeness) == ("text", 1.0)


def test_the_same_pattern_with_other_numbers_is_another_problem():
    one = text("a", "健は石を12個持ち、さらに30個もらいました。全部で何個ですか。")
    assert not find_overlap([one], [text("b", one.question.replace("30", "31"))])


def test_one_question_about_two_pictures_is_no_overlap(photographs: list[Image.Image]):
    assert not find_overlap([shown("a", photographs[0])], [shown("b", photographs[1])])


@pytest.mark.parametrize(("scale", "quality"), [(1, 50), (0.5, 40), (0.25, 30)])
def test_a_photograph_is_known_again_smaller_and_worse(photographs: list[Image.Image], scale: float, quality: int):
    ours = [shown(f"a{number}", image) for number, image in enumerate(photographs)]
    theirs = [shown(f"b{number}", recoded(image, scale, quality)) for number, image in enumerate(photographs)]
    pairs = {(found.one, found.other) for found in find_overlap(ours, theirs)}
    assert pairs == {(f"a{number}", f"b{number}") for number in range(len(photographs))}


def test_plain_pictures_of_other_colours_are_not_taken_for_each_other():
    red, blue = (shown(colour, Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue"))
    assert not find_overlap([red], [blue])


def test_real_problems_of_two_splits_do_not_look_alike(shared_data: Path):
    sets = []
    for name in ("search", "validation"):
        task, split = parse_split(f"gsm8k-ja-search@{shared_data / 'gsm8k'}:{name}")
        sets.append(task.items(split, None, 0))
    assert not find_overlap(*sets)
    assert len(find_overlap(sets[0], sets[0])) >= len(sets[0])
