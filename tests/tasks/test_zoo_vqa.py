from evovlm.tasks import Options
from evovlm.tasks.metrics.language import is_japanese
from evovlm.tasks.zoo_vqa import zoo_vqa

TASK = zoo_vqa(Options())


def test_questions_and_references_are_japanese_and_images_are_drawn():
    for item in TASK.items("search", 5, 0):
        assert is_japanese(item.question)
        assert all(is_japanese(reference) for reference in item.references)
        assert item.image is not None
        assert item.image().size == (96, 96)
        assert item.image().tobytes() == item.image().tobytes()


def test_an_english_answer_is_worth_nothing():
    item = TASK.items("search", 1, 0)[0]
    assert TASK.score(item, "a blue heart").score == 0.0


def test_half_an_answer_is_worth_something_and_is_not_exact():
    item = TASK.items("search", 1, 0)[0]
    score = TASK.score(item, item.references[0] + "、でも分かりません")
    assert 0 < score.score < 100
    assert not score.exact
