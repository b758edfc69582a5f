"""Writes the tables of docs/families.md and README.md from what the tests of families find.

    .venv/bin/python scripts/write_families.py

Run it from the repository's root. A cell says yes only if every test of that family passed just now.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evovlm.models.families import FAMILIES, Family  # noqa: E402
from tests.engines.test_families import PLAIN  # noqa: E402
from tests.text_families import SLOWER, TEXTS  # noqa: E402
from tests.vlm_families import FAMILIES as VLMS  # noqa: E402
from tests.vlm_families import PROPER  # noqa: E402

PAGE, README = ROOT / "docs" / "families.md", ROOT / "README.md"
# Files of tests by column: of vision-language models, and of text models alone.
MERGES = ("tests/merging/test_vlm_families.py", "tests/merging/test_text_families.py")
ASKS = ("tests/engines/test_families.py", "tests/engines/test_text_families.py")
ROUTES = "tests/merging/test_route_families.py"
BEGIN, END = "<!-- table: scripts/write_families.py -->\n", "<!-- end of table -->\n"
# What scripts/compare_mergekit.py found, on the same page; its last column is not of a VLM with a text model.
MERGEKIT = re.compile(r"<!-- mergekit: .*?-->\n(mergekit [\d.]+)(.*?)<!-- end of mergekit -->", re.DOTALL)
SAID = {"error": "error", "nothing written": "nothing written", "no vision": "no vision",
        "vision whole": "tower not merged"}  # fmt: skip
TEXT_ALONE = "not compared"
FAST, PLAIN_PATH = "fast", "transformers' layers"
# The recipe that merges a family's model, by the tests' name of it.
RECIPES = {
    "qwen2_5_vl": "qwen2.5-vl-abeja",
    "qwen3_vl": "qwen3-vl-swallow",
    "internvl3": "internvl3-abeja",
    "paligemma2": "paligemma2-jpn",
    "pixtral": "pixtral-shisa",
    "llava_next": "evovlm-jp",
}
# Text models that fit, where a family shares its row with one that has more of them.
FEWER = {"pixtral": ("mistral",)}
# The name of each text family, and a recipe of it, by `model_type`.
ALONE = {
    "mistral": ("Mistral", "evollm-jp"),
    "llama": ("Llama", ""),
    "qwen2": ("Qwen2", "qwen2.5-maths-ja"),
    "qwen3": ("Qwen3", ""),
    "qwen3_moe": ("Qwen3-MoE", ""),
    "gemma2": ("Gemma 2", ""),
    "gemma3_text": ("Gemma 3 (text)", ""),
    "phi3": ("Phi-3", ""),
    "cohere2": ("Cohere 2", ""),
}
assert set(ALONE) == set(TEXTS)
Results = Mapping[tuple[str, str], bool]  # whether all tests of a file passed for a family, by file and family


def passed() -> Results:
    """Run the tests."""
    found: dict[tuple[str, str], bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        files = [*MERGES, *ASKS, ROUTES]
        command = [sys.executable, "-m", "pytest", "-q", *files, f"--junitxml={results}", "-p", "no:cacheprovider"]
        subprocess.run(command, cwd=ROOT, check=False)
        for case in ElementTree.parse(results).iter("testcase"):
            name = re.fullmatch(r"\w+\[(\w+)[^\]]*\]", case.attrib["name"])
            if name is not None:
                fine = not any(part.tag in ("failure", "error", "skipped") for part in case)
                key = (case.attrib["classname"].replace(".", "/") + ".py", name[1])
                found[key] = fine and found.get(key, True)
    return found


def table(results: Results) -> str:
    """The table of vision-language models and that of text models, in Markdown."""

    def yes(file: str, family: str) -> str:
        return "yes" if results.get((file, family)) else "no"

    lines = [
        f"| family | text models that fit | merges | asks | path | routes | picture | recipe | {mergekit()[0]} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    others = mergekit()[1]
    for tested in VLMS:
        name = PROPER[tested]
        family = next(one for one in FAMILIES if name in one.name.split(", "))
        cells = [name, ", ".join(FEWER.get(tested, family.towers)), yes(MERGES[0], tested), yes(ASKS[0], tested)]
        cells += [PLAIN_PATH if tested in PLAIN else FAST, yes(ROUTES, tested), _picture(family)]
        lines.append(_row([*cells, _recipe(RECIPES.get(tested, "")), others[name]]))
    for family in (one for one in FAMILIES if one.unasked):
        merges, routes = (yes(file, family.types[0]) for file in (MERGES[0], ROUTES))
        cells = [family.name, ", ".join(family.towers), merges, "no", "", "refused" if routes == "yes" else "no"]
        lines.append(_row([*cells, "", "", others[family.name]]))
    lines += [
        "",
        "| text alone | `model_type` | merges | asks | path | routes | recipe |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, (name, recipe) in ALONE.items():
        cells = [name, kind, yes(MERGES[1], kind), yes(ASKS[1], kind), PLAIN_PATH if kind in SLOWER else FAST]
        lines.append(_row([*cells, yes(ROUTES, kind), _recipe(recipe)]))
    return "\n".join(lines) + "\n"


def short_table(results: Results) -> str:
    """The same families in a few rows, for README.md: those of which all but the recipes is alike."""
    shown: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for line in table(results).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 1 and cells[0] not in ("family", "text alone", "---"):
            recipe, other = cells[7:] if len(cells) > 8 else (cells[6], TEXT_ALONE)
            names, recipes = shown.setdefault((*cells[2:6], other), ([], []))
            names.append(cells[0])
            recipes += [recipe] if recipe else []
    lines = [f"| families | merges | asks | path | routes | recipe | {mergekit()[0]} |", f"|{'---|' * 7}"]
    for (*cells, other), (names, recipes) in shown.items():
        lines.append(_row([", ".join(names), *cells, ", ".join(recipes), other]))
    return "\n".join(lines) + "\n"


def mergekit() -> tuple[str, dict[str, str]]:
    """mergekit's name with its version, and in a few words what it makes of each family with a text model."""
    found = MERGEKIT.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    said = {}
    for line in found[2].splitlines():
        if line.startswith("| ") and not line.startswith("| family "):
            family, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            words = (next(short for begin, short in SAID.items() if begin in cell) for cell in cells[:-1] if cell)
            said[family] = ", ".join(dict.fromkeys(words))
    return found[1], said


def with_table(page: str, content: str) -> str:
    """A page with other content between the marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + content + END + rest.split(END)[1]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _recipe(name: str) -> str:
    return f"`{name}`" if name else ""


def _picture(family: Family) -> str:
    places = {"row": "in a row", "grid": "in a grid"}[family.positions]
    sight = {"causal": "", "picture": ", its tokens see each other", "prompt": ", all of a prompt see each other"}
    return places + sight[family.attention]


if __name__ == "__main__":
    found = passed()
    for path, write in ((PAGE, table), (README, short_table)):
        path.write_text(with_table(path.read_text(encoding="utf-8"), write(found)), encoding="utf-8")
