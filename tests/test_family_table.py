"""The tables of families in docs/families.md and README.md are those that their script writes if every test passes."""

from pathlib import Path
from typing import Any

import pytest

from tests.scripts import load_script
from tests.text_families import TEXTS
from tests.vlm_families import FAMILIES, UNASKED

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("write_families")


def all_passed(script: Any) -> dict[tuple[str, str], bool]:
    """Every test that is run for a family, as if it had passed; those tests themselves are run in the slow lane."""
    vlms = {(file, name): True for file in (script.MERGES[0], script.ASKS[0], script.ROUTES) for name in FAMILIES}
    texts = {(file, name): True for file in (script.MERGES[1], script.ASKS[1], script.ROUTES) for name in TEXTS}
    return vlms | texts | {(file, name): True for file in (script.MERGES[0], script.ROUTES) for name in UNASKED}


def test_no_table_is_stale(script: Any):
    results = all_passed(script)
    for path, write in ((script.PAGE, script.table), (script.README, script.short_table)):
        page = path.read_text(encoding="utf-8")
        assert page == script.with_table(page, write(results)), f"run scripts/write_families.py for {path.name}"


def test_a_test_that_fails_is_a_no_in_both_tables(script: Any):
    failed = ((script.ROUTES, "gemma3"), (script.ASKS[1], "phi3"), (script.ROUTES, "gemma4"))
    results = all_passed(script) | dict.fromkeys(failed, False)
    assert "| Gemma 3 | gemma3_text | yes | yes | transformers' layers | no |" in script.table(results)
    assert "| Gemma 4 | gemma4_text | yes | no |  | no |" in script.table(results)
    assert "| Phi-3 | phi3 | yes | no | transformers' layers | yes |" in script.table(results)
    short = script.short_table(results).splitlines()
    assert [line for line in short if line.startswith("| Gemma 3 |")] == [
        "| Gemma 3 | yes | yes | transformers' layers | no |  | error |"
    ]


def test_both_tables_say_what_mergekit_does_and_which_recipe_there_is(script: Any):
    long, short = script.table(all_passed(script)), script.short_table(all_passed(script))
    assert all("| mergekit 0.1.5 |" in text.splitlines()[0] for text in (long, short))
    rows = {line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[-1] for line in long.splitlines()}
    # As in the table of scripts/compare_mergekit.py, further down on the page.
    assert (rows["Qwen2.5-VL"], rows["LLaVA-NeXT"]) == ("error", "no vision")
    assert rows["PaliGemma 2"] == "nothing written, no vision"
    assert rows["Idefics3"] == "tower not merged, no vision"
    assert all(f"`{name}`" in text for text in (long, short) for name in script.RECIPES.values())


def test_the_recipes_named_in_the_tables_are_there(script: Any):
    named = [*script.RECIPES.values(), *(recipe for _, recipe in script.ALONE.values() if recipe)]
    assert named
    assert all((ROOT / "recipes" / f"{name}.yaml").is_file() for name in named)
