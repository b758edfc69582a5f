"""The report on a phone and on a desk, in a real browser."""

import json
from pathlib import Path
from typing import Any

import pytest

from evovlm.report import write_report

pytestmark = pytest.mark.slow

LONG = "長い答えです。" * 60
WORD = "x" * 500  # nothing to break a line at
WIDE = "document.documentElement.scrollWidth <= window.innerWidth"
PLOTS = "[...document.querySelectorAll('.plot')].map(plot => plot.querySelector('svg').getBoundingClientRect().width)"


@pytest.fixture
def wordy(study: Path) -> Path:
    """A study whose answers, questions, ids and errors are long."""
    for name, key in (("heldout_answers.jsonl", "answer"), ("answers.jsonl", "answer"), ("trials.jsonl", "error")):
        path = study / name
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            if row.get(key) is not None:
                row[key] = LONG if number % 2 else WORD
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return study


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(chromium: Any, wordy: Path, width: int):
    context = chromium.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(write_report(wordy).as_uri())
    page.locator(".plot svg").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert LONG in page.locator("body").inner_text()
    assert page.evaluate(WIDE)
    assert all(0 < plot <= width for plot in page.evaluate(PLOTS))
    context.set_default_timeout(5000)
    page.set_viewport_size({"width": 844, "height": 390})  # the phone is turned
    page.wait_for_timeout(500)
    assert page.evaluate(WIDE)
    assert max(page.evaluate(PLOTS)) > 390
    context.close()
