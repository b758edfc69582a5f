"""docs/methods.md is what its script writes from the registry."""

from typing import Any

import pytest

from evovlm.methods import METHODS
from tests.scripts import load_script


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("write_methods")


def test_the_page_is_not_stale_and_has_a_section_for_every_method(script: Any):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.with_methods(page, script.written(METHODS.values())), "run scripts/write_methods.py"
    assert all(f"\n## {name}\n" in page for name in METHODS)
    assert all(page.count(f"| [`{name}`](#{name}) |") == 1 for name in METHODS)
