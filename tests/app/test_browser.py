"""Each tab used as a person would, in a real browser, on the zoo."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evovlm.study.log import read_trials
from evovlm.tasks import load_task
from tests.app.conftest import SECOND, Served, Visitor
from tests.report.study_folder import make_study

pytestmark = pytest.mark.slow

# Trials of a search that is still running when a person has seen it run and pressed stop.
LONG = 120


@pytest.fixture
def visitor(chromium: Any, served: Served) -> Iterator[Visitor]:
    person = Visitor(chromium, served.url, "ja-JP")
    yield person
    person.context.close()


def scene(path: Path) -> tuple[Path, str, str]:
    """A held-out scene as a file, with its question and reference."""
    item = load_task("zoo-vqa").items("test", 3, 0)[2]
    assert item.image is not None
    item.image().save(path)
    return path, item.question, item.references[0]


def upload(visitor: Visitor, path: Path) -> None:
    """Give a file to the picture field, once it is at rest: a field that is being updated drops it."""
    field = visitor.page.locator("#compare-picture")
    visitor.page.wait_for_timeout(1000)
    field.locator("input[type=file]").first.set_input_files(str(path))


def test_an_uploaded_image_and_a_japanese_question_get_three_answers(visitor: Visitor, tmp_path: Path):
    path, question, reference = scene(tmp_path / "scene.png")
    upload(visitor, path)
    visitor.page.locator("#compare-picture img").wait_for()
    visitor.page.wait_for_timeout(1000)
    visitor.page.locator("#compare-question textarea, #compare-question input").first.fill(question)
    visitor.page.click("#compare-ask")
    answers = visitor.answers("compare", 3)
    assert set(answers) == {"vlm", "ja", "merged"}
    assert all(answers.values())
    # The reference of this scene is known, so every card tells its ROUGE-L.
    assert visitor.page.locator("#compare-answers li", has_text="ROUGE-L").count() == 3
    assert visitor.page.locator('#compare-answers [data-model="ja"] .badge').inner_text() == "画像なしで回答"
    assert reference
    assert visitor.strays == []


def test_an_example_fills_the_question_in_one_click(visitor: Visitor):
    examples = visitor.page.locator("#compare-examples button")
    text = examples.nth(1).inner_text().strip()
    examples.nth(1).click()
    box = visitor.page.locator("#compare-question textarea, #compare-question input").first
    visitor.page.wait_for_timeout(1000)
    assert box.input_value() == text


def test_a_word_problem_gets_numbers_and_verdicts(visitor: Visitor):
    visitor.open("maths")
    visitor.page.click("#maths-ask")
    assert len(visitor.answers("maths", 4)) == 4
    verdicts = visitor.page.locator("#maths-answers li.good, #maths-answers li.bad").all_inner_texts()
    assert "正解" in verdicts


def test_a_slider_changes_the_answer_and_the_merge_takes_less_than_a_second(visitor: Visitor):
    visitor.open("mix")
    visitor.page.click("#mix-ask")
    before = visitor.answers("mix", 1)
    number = visitor.page.locator("#mix-weight-1 input[type=number]")
    number.fill("0")
    number.press("Enter")
    number.blur()
    visitor.page.locator("#mix-values table").wait_for()
    visitor.page.wait_for_function(
        "before => { const said = document.querySelector('#mix-answers .answer.done .said');"
        " return said && said.innerText !== before; }",
        arg=next(iter(before.values())),
    )
    merged = visitor.page.locator("#mix-answers li", has_text="合成").inner_text()
    assert float(re.findall(r"[\d.]+", merged)[0]) < 1.0
    visitor.page.click("#mix-save")
    visitor.page.locator("#mix-yaml", has_text="method: dare_ties").wait_for()


def test_the_language_follows_the_browser_and_the_switch(visitor: Visitor):
    assert visitor.page.locator("#compare-ask").inner_text() == "質問する"
    visitor.page.locator("#language").get_by_text("English").click()
    visitor.page.wait_for_function("document.querySelector('#compare-ask').innerText === 'Ask'")
    assert visitor.page.evaluate("document.documentElement.lang") == "en"
    visitor.page.reload()
    visitor.page.wait_for_function("document.querySelector('#compare-ask')?.innerText === 'Ask'")
    visitor.page.click("#dark")
    assert visitor.page.evaluate("document.body.classList.contains('dark')")


def test_a_search_starts_stops_and_goes_on(visitor: Visitor, served: Served):
    visitor.open("evolution")
    visitor.page.locator("#evolution-state [data-state=none]").wait_for()
    name = visitor.page.locator("#evolution-name input, #evolution-name textarea").first
    visitor.page.wait_for_timeout(1000)  # words that are still being put into the page take a field's value along
    name.fill("from-the-page")
    name.blur()
    for field, value in (("trials", str(LONG)), ("items", "8")):
        number = visitor.page.locator(f"#evolution-{field} input[type=number]")
        number.fill(value)
        number.blur()
    visitor.page.click("#evolution-start")
    state = visitor.page.locator("#evolution-state .state")
    visitor.page.locator('#evolution-state [data-state="running"]:not([data-done="0"])').wait_for(timeout=120 * SECOND)
    visitor.page.click("#evolution-stop")
    visitor.page.locator('#evolution-state [data-state="stopped"]').wait_for()
    stopped = int(state.get_attribute("data-done"))
    folder = served.studies / "from-the-page"
    before = read_trials(folder)
    assert 0 < stopped <= len(before) < LONG
    visitor.page.click("#evolution-go-on")
    visitor.page.locator('#evolution-state [data-state="done"]').wait_for(timeout=120 * SECOND)
    after = read_trials(folder)
    assert len(after) == LONG
    assert after[: len(before)] == before
    visitor.page.locator("#evolution-words table.held").wait_for()
    assert visitor.page.locator("#evolution-scores-plot .js-plotly-plot").count() == 1
    assert served.health()["searching"] is False


def test_too_large_and_no_image_are_refused_in_a_sentence(visitor: Visitor, tmp_path: Path):
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"this is no picture")
    upload(visitor, fake)
    visitor.page.get_by_text("画像として読めません").first.wait_for()
    many = tmp_path / "many.png"
    Image.new("1", (5000, 4000)).save(many)
    upload(visitor, many)
    visitor.page.get_by_text("画像の画素数が多すぎます").first.wait_for()
    big = tmp_path / "big.png"
    big.write_bytes(b"\x89PNG" + bytes(9_000_000))
    upload(visitor, big)
    visitor.page.get_by_text("ファイルが大きすぎます。8 MBまでです。").first.wait_for()
    assert visitor.page.locator("#compare-picture img").count() == 0, "nothing was taken"


def test_keys_alone_walk_the_tabs_and_move_a_slider(visitor: Visitor):
    visitor.page.locator("#tabs [role=tab]").first.focus()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.locator("#mix-ask").wait_for()
    cell = visitor.page.locator("#mix-values td[style]").nth(1)
    before = float(cell.inner_text().split()[0])
    visitor.page.locator("#mix-weight-1 input[type=range]").focus()
    for _ in range(10):
        visitor.page.keyboard.press("ArrowLeft")
    visitor.page.wait_for_function(
        "want => document.querySelectorAll('#mix-values td[style]')[1].innerText.startsWith(want)",
        arg=f"{before - 0.1:.2f}",
    )
    assert len(visitor.answers("mix", 1)) == 1


def test_everything_has_a_name_in_the_language_of_the_page(visitor: Visitor):
    visitor.page.wait_for_function(
        "[...document.querySelectorAll('#compare-panel img, #compare-panel button')].every(part =>"
        " /[ぁ-んァ-ン一-龠]/.test(part.alt || part.getAttribute('aria-label') || part.innerText))"
    )
    assert "黒い丸" in visitor.page.locator("#compare-picture .image-frame img").get_attribute("alt")


def test_a_study_that_was_begun_elsewhere_appears(visitor: Visitor, served: Served, tmp_path: Path):
    visitor.open("evolution")
    served.studies.mkdir(exist_ok=True)
    make_study(tmp_path / "elsewhere").rename(served.studies / "elsewhere")
    visitor.page.wait_for_function("document.querySelector('#evolution-study input').value !== ''")
    visitor.page.wait_for_timeout(3 * SECOND)
    visitor.page.locator("#evolution-study input").click()
    visitor.page.get_by_role("option", name="elsewhere").click()
    visitor.page.locator('#evolution-state [data-done="40"]').wait_for()
    assert "候補" in visitor.page.locator("#evolution-scores-plot").inner_text()


def test_two_visitors_at_once_each_get_their_own_answers(chromium: Any, served: Served):
    one, two = Visitor(chromium, served.url, "ja-JP"), Visitor(chromium, served.url, "en-GB", width=390)
    one.page.locator("#compare-examples button").nth(2).click()
    two.page.locator("#compare-examples button").nth(4).click()
    one.page.wait_for_timeout(800)
    one.page.click("#compare-ask")
    two.page.click("#compare-ask")
    assert len(one.answers("compare", 3)) == 3
    assert len(two.answers("compare", 3)) == 3
    assert two.page.evaluate("document.documentElement.scrollWidth") <= 391
    assert one.strays == two.strays == []
    one.context.close()
    two.context.close()
