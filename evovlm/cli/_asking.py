"""Whether each model of a recipe can be merged and asked, as `recipe check` shows it.

Knows findings and engines; prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evovlm.merging.check import Finding
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe

PATIENCE = 2.0  # seconds without a word


@dataclass(frozen=True)
class ModelRow:
    """One model of a recipe. asked: `fast`, `transformers`, `no`, `unknown` or `not tried`; how: in a sentence."""

    key: str  # its place in the recipe: `base`, `sources.ja`
    merged: bool
    asked: str
    how: str
    tokens_per_second: float | None


def ask_models(
    recipe: Recipe,
    models: Sequence[OpenModel],
    findings: Sequence[Finding],
    *,
    ask: bool,
    tell: Callable[[str], None],
) -> list[ModelRow]:
    """Find out how each model would be asked, one after another; `tell` is called with a line before it takes long."""
    errors = [finding.key for finding in findings if finding.level == "error"]
    owner = recipe.owner if recipe.owner is not None else models[0].label
    rows = []
    began = time.monotonic()
    for number, model in enumerate(models, start=1):
        merged = not any(key == model.place or key.startswith(f"{model.place}.") for key in errors)
        merged &= model.label != owner or not {"owner", "kind"} & set(errors)
        if not ask:
            rows.append(ModelRow(model.place, merged, "not tried", "", None))
            continue
        if number == 1 or time.monotonic() - began > PATIENCE:
            tell(f"trying how {model.place} can be asked ({number} of {len(models)}; --no-ask leaves this out)")
        from evovlm.engines.askable import how_asked  # imports transformers, which takes seconds

        found = how_asked(model)
        rows.append(ModelRow(model.place, merged, found.path, found.text, found.tokens_per_second))
    return rows


def unaskable(recipe: Recipe, rows: Sequence[ModelRow]) -> list[Finding]:
    """A search asks the owner's model all its questions, so a recipe that has one does not fit without."""
    if recipe.search is None:
        return []
    owner = f"sources.{recipe.owner}" if recipe.owner is not None else rows[0].key
    return [
        Finding("error", "search", f"its candidates cannot be asked, because {row.key} {row.how}")
        for row in rows
        if row.key == owner and row.asked == "no"
    ]
