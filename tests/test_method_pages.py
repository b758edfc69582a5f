"""docs/methods.md is what its script writes from the registry."""

from pathlib import Path
from typing import Any

import pytest

from evovlm.methods import METHODS
from tests.scripts import load_script


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("write_methods")


def test_the_page_is_not_stale_and_has_a_section_for_every_method(script: Any):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.whole(page), "run scripts/write_methods.py"
    assert all(f"\n## {name}\n" in page for name in METHODS)
    scored = {row["method"] for row in script.rows_of(script.ROWS)}
    assert all(page.count(f"| [`{name}`](#{name}) |") == 1 + (name in scored) for name in METHODS)


def row(method: str, seed: int, score: float, **other: Any) -> dict[str, Any]:
    return {
        "method": method, "seed": seed, "score": score, "tries": 24, "searched": ["weight"], "base": "zoo:base",
        "models": ["zoo:ja", "zoo:math"], "data": "zoo-maths:test", "items": 60, "judged": 300, "zoo": "ab12",
        "commit": "cd34", "cpu_seconds": 18.0, "hardware": "a machine", "versions": {},
    } | other  # fmt: skip


def test_scores_are_told_as_means_with_their_spread_best_first(script: Any):
    rows = [row("linear", 0, 10.0, base=None), row("ties", 0, 20.0), row("ties", 1, 31.0)]
    rows.append(row("karcher", 0, 15.0, tries=1))
    text = script.scores(rows)
    assert "At most 24 candidates per search, each asked 60 questions" in text
    assert "Zoo `ab12`, commit cd34; a machine, 18 CPU seconds per search on average." in text
    assert [line for line in text.splitlines() if line.startswith("| [")] == [
        "| [`ties`](#ties) | 25.5 | 20.0 to 31.0 | 2 | 24 | weight | ja, math, base base |",
        "| [`karcher`](#karcher) | 15.0 |  | 1 | 1 | nothing | ja, math, base base |",
        "| [`linear`](#linear) | 10.0 |  | 1 | 24 | weight | ja, math |",
    ]


def test_without_rows_there_are_no_scores(script: Any, tmp_path: Path):
    assert script.scores(script.rows_of(tmp_path / "absent.jsonl")) == "Not measured yet.\n"
