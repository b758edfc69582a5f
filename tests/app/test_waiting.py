"""What people see while an answer takes its time, and what becomes of it when they go."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.conftest import Served, Visitor, serve

pytestmark = pytest.mark.slow  # starts servers


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("slow"), pause=0.2)


def solving(chromium: Any, slow: Served) -> Visitor:
    """A visitor whose word problem is being answered."""
    person = Visitor(chromium, slow.url, "ja-JP")
    person.open("maths")
    person.page.locator("#maths-ask").click()
    return person


def ended(slow: Served) -> list[str]:
    return [line["event"] for line in slow.log() if line["event"] in ("left", "answered")]


def test_who_closes_the_page_stops_the_answer(chromium: Any, slow: Served):
    before = len(ended(slow))
    person = solving(chromium, slow)
    person.page.locator("#maths-answers .answer.writing").first.wait_for()
    person.context.close()
    for _ in range(100):
        if len(ended(slow)) > before:
            break
        time.sleep(0.1)
    assert ended(slow)[before:] == ["left"]


@pytest.mark.slow
def test_a_second_visitor_sees_the_line_and_the_first_may_stop(chromium: Any, slow: Served):
    before = len(ended(slow))
    one = solving(chromium, slow)
    one.page.locator("#maths-answers .answer.writing").first.wait_for()
    two = solving(chromium, slow)
    # Gradio's own count of those who wait.
    two.page.locator("#maths-answers .progress-text, #maths-answers .meta-text").first.wait_for()
    one.page.locator("#maths-stop").click()
    one.page.locator("#maths-answers .answer.stopped").first.wait_for()
    assert "停止しました" in one.page.locator("#maths-answers").inner_text()
    two.page.locator("#maths-answers .answer.writing").first.wait_for()
    assert ended(slow)[before:] == ["left"]
    for person in (one, two):
        person.context.close()
