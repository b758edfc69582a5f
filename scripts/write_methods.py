"""Writes docs/methods.md: the table and sections from the registry of merge methods, and the zoo's scores from rows.

    .venv/bin/python scripts/write_methods.py

`python -m evovlm_benchmarks.contest` writes the rows, docs/studies/methods.jsonl. Without them there are no scores.
docs/studies/method-speed.jsonl has the times on a GPU that `evovlm bench speed methods` printed.

Run it from the repository's root.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evovlm.methods import METHODS, Method  # noqa: E402
from evovlm.methods.description import needs_in_words, options_in_words, shown_default  # noqa: E402

PAGE = ROOT / "docs" / "methods.md"
ROWS = ROOT / "docs" / "studies" / "methods.jsonl"
SPEED = ROOT / "docs" / "studies" / "method-speed.jsonl"
AS_ISO_C = ("iso_cts", "knots_ties", "wudi")  # merge one prepared vector by the kernel that merges `iso_c`'s
BEGIN, END = "<!-- methods: scripts/write_methods.py -->\n", "<!-- end of methods -->\n"
SCORES, SCORES_END = "<!-- scores: scripts/write_methods.py -->\n", "<!-- end of scores -->\n"


def written(rows: Iterable[Method]) -> str:
    """The table of all methods and a section for each, in Markdown."""
    rows = list(rows)
    floors = {row["method"]: f"{row['floors']:g}" for row in rows_of(SPEED)}
    floors |= dict.fromkeys(AS_ISO_C, f"as `iso_c`: {floors['iso_c']}")
    lines = ["| method | needs | options | cost | times the floor | source |", "|---|---|---|---|---|---|"]
    for row in rows:
        options = ", ".join(f"`{option.name}`" for option in options_in_words(row))
        link = f"[`{row.name}`](#{row.name})"
        lines.append(f"| {link} | {needs_in_words(row)} | {options} | {row.cost} |")
        lines[-1] += f" {floors.get(row.name, '')} | {row.source} |"
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


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; none if it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scores(rows: Sequence[dict[str, Any]]) -> str:
    """What was run, and a line per method with its mean score and spread over seeds, in Markdown; best first."""
    if not rows:
        return "Not measured yet.\n"
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    most = max(row["tries"] for row in rows)
    said = {key: _same(rows, key) for key in ("data", "items", "judged", "zoo", "commit", "hardware")}
    seconds = fmean(row["cpu_seconds"] for row in rows)
    lines = [
        f"At most {most} candidates per search, each asked {said['items']} questions; the best on fresh questions is"
        f" tested on {said['judged']} of `{said['data']}`. Zoo `{said['zoo']}`, commit {said['commit']};"
        f" {said['hardware']}, {seconds:.0f} CPU seconds per search on average.",
        "",
        "| method | mean score | lowest and highest | seeds | candidates | searched | models |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in sorted(by_method.items(), key=lambda pair: -fmean(row["score"] for row in pair[1])):
        found = [row["score"] for row in own]
        merged = ", ".join(model.removeprefix("zoo:") for model in own[0]["models"])
        base = own[0]["base"]
        models = merged if base is None else f"{merged}, base {base.removeprefix('zoo:')}"
        searched = ", ".join(own[0]["searched"]) if own[0]["tries"] > 1 else "nothing"
        spread = f"{min(found):.1f} to {max(found):.1f}" if len(found) > 1 else ""
        facts = [f"{fmean(found):.1f}", spread, str(len(found)), str(own[0]["tries"]), searched, models]
        lines.append(f"| [`{name}`](#{name}) | {' | '.join(facts)} |")
    return "\n".join(lines) + "\n"


def _same(rows: Sequence[dict[str, Any]], key: str) -> str:
    """The values that rows have, without repetitions."""
    return ", ".join(dict.fromkeys(str(row[key]) for row in rows))


def with_content(page: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with other content between the marks."""
    before, rest = page.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def whole(page: str) -> str:
    """The page as the registry and the rows have it now."""
    page = with_content(page, scores(rows_of(ROWS)), SCORES, SCORES_END)
    return with_content(page, written(METHODS.values()))


if __name__ == "__main__":
    PAGE.write_text(whole(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
