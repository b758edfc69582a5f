from evovlm.tasks import Item, Options
from evovlm.tasks.zoo_maths import zoo_maths

TASK = zoo_maths(Options())
ITEM = Item("1", "健は石を3個持ち、4個もらいました。残りは何個ですか。", ("7",), None)


def test_the_right_number_in_japanese_is_worth_all():
    assert TASK.score(ITEM, "3+4=7、答えは7個です").score == 100.0


def test_the_right_number_in_english_is_worth_nothing():
    score = TASK.score(ITEM, "3+4=7, so the answer is 7 stones")
    assert (score.score, score.exact) == (0.0, False)


def test_the_wrong_number_is_worth_nothing():
    assert TASK.score(ITEM, "3+4=7、答えは8個です").score == 0.0


def test_the_last_number_counts():
    assert TASK.score(ITEM, "7個から1個失い、残りは6個").score == 0.0


def test_problems_have_no_image():
    assert all(item.image is None for item in TASK.items("search", 3, 0))
