"""Writes the table and the sections of docs/methods.md from the registry of merge methods.

    .venv/bin/python scripts/write_methods.py

Run it from the repository's root.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evovlm.methods import METHODS, Method  # noqa: E402
from evovlm.methods.description import needs_in_words, options_in_words, shown_default  # noqa: E402

PAGE = ROOT / "docs" / "methods.md"
BEGIN, END = "<!-- methods: scripts/write_methods.py -->\n", "<!-- end of methods -->\n"


def written(rows: Iterable[Method]) -> str:
    """The table of all methods and a section for each, in Markdown."""
    rows = list(rows)
    lines = ["| method | needs | options | cost | source |", "|---|---|---|---|---|"]
    for row in rows:
        options = ", ".join(f"`{option.name}`" for option in options_in_words(row))
        link = f"[`{row.name}`](#{row.name})"
        lines.append(f"| {link} | {needs_in_words(row)} | {options} | {row.cost} | {row.source} |")
    return "\n".join(lines) + "\n\n" + "\n".join(section(row) for row in rows)


def section(row: Method) -> str:
    """One method's section."""
    unused = [name for name, used in (("weights", row.weighted), ("densities", row.drop is not None)) if not used]
    facts = [f"Needs {needs_in_words(row)}."]
    facts += [f"Does not use {' and '.join(unused)}."] if unused else []
    facts += [f"Cost: {row.cost}."] if row.cost else []
    facts += [f"Source: {row.source}."] if row.source else []
    facts += ["mergekit has it too."] if row.mergekit is not None else []
    lines = [f"## {row.name}", "", f"{row.doc[:1].upper()}{row.doc[1:]}.", "", *facts]
    options = options_in_words(row)
    if options:
        lines += ["", "| option | default | takes | what it does |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | `{shown_default(one)}` | {one.takes} | {one.doc} |" for one in options]
    return "\n".join(lines) + "\n"


def with_methods(page: str, content: str) -> str:
    """A page with other content between the marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + content + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_methods(PAGE.read_text(encoding="utf-8"), written(METHODS.values())), encoding="utf-8")
