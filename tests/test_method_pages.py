"""docs/methods.md is what its script writes from the registry."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from evovlm.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("write_methods", ROOT / "scripts" / "write_methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_not_stale_and_has_a_section_for_every_method(script: Any):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.with_methods(page, script.written(METHODS.values())), "run scripts/write_methods.py"
    assert all(f"\n## {name}\n" in page for name in METHODS)
    assert all(page.count(f"| [`{name}`](#{name}) |") == 1 for name in METHODS)
