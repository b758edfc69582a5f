"""Writes the table of docs/families.md from what the tests of families find. Run it from the repository's root.

    .venv/bin/python scripts/write_families.py

A cell says yes only if every test of that family passed just now.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evovlm.models.families import FAMILIES, Family  # noqa: E402
from tests.engines.test_families import PLAIN  # noqa: E402

PAGE = ROOT / "docs" / "families.md"
ASKS, MERGES = "tests/engines/test_families.py", "tests/merging/test_vlm_families.py"
BEGIN, END = "<!-- table: scripts/write_families.py -->\n", "<!-- end of table -->\n"
# The tests' name of each family's models, and the recipe that merges one.
TESTED = {
    "LLaVA-OneVision": ("llava_onevision", ""),
    "Qwen2-VL": ("qwen2_vl", ""),
    "Qwen2.5-VL": ("qwen2_5_vl", "qwen2.5-vl-abeja"),
    "Qwen3-VL": ("qwen3_vl", "qwen3-vl-swallow"),
    "InternVL3": ("internvl3", "internvl3-abeja"),
    "InternVL3.5": ("internvl3_5", ""),
    "Gemma 3": ("gemma3", ""),
    "PaliGemma 2": ("paligemma2", "paligemma2-jpn"),
    "Pixtral": ("pixtral", "pixtral-shisa"),
    "Mistral Small 3.1": ("mistral3", ""),
    "Idefics3": ("idefics3", ""),
    "SmolVLM": ("smolvlm", ""),
    "Aya Vision": ("aya_vision", ""),
    "LLaVA-NeXT": ("llava_next", "evovlm-jp"),
    "LLaVA 1.5": ("llava", ""),
}


def passed() -> dict[tuple[str, str, str], bool]:
    """Whether each test passed: by file, test and the family's name in it."""
    found: dict[tuple[str, str, str], bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            ASKS,
            MERGES,
            f"--junitxml={results}",
            "-p",
            "no:cacheprovider",
        ]
        subprocess.run(command, cwd=ROOT, check=False)
        for case in ElementTree.parse(results).iter("testcase"):
            name = re.fullmatch(r"(\w+)\[(\w+)\]", case.attrib["name"])
            if name is not None:
                fine = not any(part.tag in ("failure", "error", "skipped") for part in case)
                found[case.attrib["classname"].rpartition(".")[2], name[1], name[2]] = fine
    return found


def table(results: dict[tuple[str, str, str], bool]) -> str:
    """The table in Markdown."""
    lines = [
        "| family | text models that fit | merges | asks | path | picture | recipe |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (tested, recipe) in TESTED.items():
        family = next(one for one in FAMILIES if name in one.name.split(", "))
        merges, asks = (_all_passed(results, file, tested) for file in ("test_vlm_families", "test_families"))
        path = "transformers' layers" if tested in PLAIN else "fast"
        lines.append(
            f"| {name} | {', '.join(family.towers)} | {merges} | {asks} | {path} | {_picture(family)} |"
            f" {recipe and f'`{recipe}`'} |"
        )
    for family in (one for one in FAMILIES if one.unasked):
        merges = _all_passed(results, "test_vlm_families", family.types[0])
        lines.append(f"| {family.name} | {', '.join(family.towers)} | {merges} | no | | {_picture(family)} | |")
    return "\n".join(lines) + "\n"


def _all_passed(results: dict[tuple[str, str, str], bool], file: str, family: str) -> str:
    these = [fine for (in_file, _, of), fine in results.items() if in_file == file and of == family]
    return "yes" if these and all(these) else "no"


def _picture(family: Family) -> str:
    places = {"row": "in a row", "grid": "in a grid"}[family.positions]
    sight = {"causal": "", "picture": ", its tokens see each other", "prompt": ", all of a prompt see each other"}
    return places + sight[family.attention]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + table(passed()) + END + rest.split(END)[1], encoding="utf-8")
