"""How much a tokenizer's own steps can lengthen a text: refused if a question of a line could become gigabytes.

Knows the steps that tokenizer.json may list; tokenizes nothing. Forty steps that each write two letters for one make a
thousand billion of one letter, in a file of two kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evovlm.system.errors import CheckpointError

# Published tokenizers double a text at most; a replacement by a word of a few letters is far below.
MOST_GROWTH = 1000.0
PARTS = ("normalizer", "pre_tokenizer", "decoder")
MOST_TEMPLATE = 100  # entries of what is written around a text; published ones have three


def refuse_growth(path: Path, content: Mapping[str, Any]) -> None:
    """Raise CheckpointError if the steps of a tokenizer.json can lengthen a text more than MOST_GROWTH times."""
    for part in PARTS:
        growth = 1.0
        for step in _steps(content.get(part)):
            growth *= _growth(step)
            if growth > MOST_GROWTH:
                raise CheckpointError(
                    f"{path}: the steps of `{part}` can make a text more than {MOST_GROWTH:,.0f} times as long; fetch"
                    " it again"
                )
    for step in _steps(content.get("post_processor")):
        for key in ("single", "pair"):
            if isinstance(step.get(key), list) and len(step[key]) > MOST_TEMPLATE:
                raise CheckpointError(
                    f"{path}: `post_processor` has {len(step[key]):,} entries in `{key}`, more than {MOST_TEMPLATE};"
                    " fetch it again"
                )


def _steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object within a part, those inside sequences too. Nesting is limited where the file was read."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _steps(part)
    elif isinstance(value, list):
        for part in value:
            yield from _steps(part)


def _growth(step: Mapping[str, Any]) -> float:
    """How many characters a step can write for one."""
    written = step.get("content") if step.get("type") == "Replace" else step.get("prepend")
    if not isinstance(written, str):
        return 1.0
    pattern = step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(literal, str) and literal:
        return max(1.0, len(written) / len(literal))
    return 1.0 + len(written)  # a pattern may match nothing, between any two characters
