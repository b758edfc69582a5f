"""Checks a model's vocabulary against the owner's, under the recipe's policy.

Knows token tables and row counts; the policies themselves are in `evovlm.models.vocabulary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.layouts import EMBEDDING
from evovlm.models.open_model import OpenModel
from evovlm.models.vocabulary import match_rows, name_some
from evovlm.recipe.schema import Vocab
from evovlm.system.errors import RecipeError


def check_vocabulary(model: OpenModel, owner: OpenModel, policy: Vocab) -> Iterator[Finding]:
    """Report vocabularies that cannot be matched, dropped and missing tokens, and matching by position."""
    key = model_key(model, "vocab")
    if EMBEDDING not in model.tower or EMBEDDING not in owner.tower:
        return
    owner_rows = owner.checkpoint.shape(owner.tower[EMBEDDING])[0]
    rows = model.checkpoint.shape(model.tower[EMBEDDING])[0]
    try:
        match = match_rows(owner.tokens, owner_rows, model.tokens, rows, policy, model.place)
    except RecipeError as error:
        yield Finding("error", key, str(error).removeprefix(f"{model.place}: "))
        return
    if policy == "tower":
        yield Finding("note", key, f"embeddings and head are {owner.label}'s, unmerged")
        return
    if policy == "same" and owner.tokens is not None and model.tokens is not None:
        if not match.identity:
            text = f"{min(rows, owner_rows)} of {owner_rows} rows are matched by position; the others are padding"
            yield Finding("note", key, text)
        return
    if policy == "position" or owner.tokens is None or model.tokens is None:
        counts = f"{min(rows, owner_rows)} of {owner_rows} rows are matched by position"
        if policy == "position":
            others = _other_tokens(model, owner)
            rest = f", though {others}; set `vocab: match` to match rows by token" if others else ""
            yield Finding("warning" if others else "note", key, f"{counts}, as the recipe asks{rest}")
        else:
            yield Finding(
                "warning",
                key,
                f"{counts} because tokenizer files are missing; make sure that row i is the same token in both",
            )
        return
    if match.extra:
        text = (
            f"{len(match.extra)} of its tokens ({_rows(match.extra, model)}) are dropped because {owner.label} lacks"
            f" them: {name_some(match.extra)}"
        )
        yield Finding("warning" if policy == "shared" else "note", key, text)
    if match.missing:
        text = (
            f"lacks {len(match.missing)} of {owner.label}'s tokens ({_rows(match.missing, owner)}); the owner's rows"
            f" are used for them: {name_some(match.missing)}"
        )
        yield Finding("warning" if policy == "shared" else "note", key, text)
    if not match.identity:
        count = int((match.rows >= 0).sum())
        yield Finding("note", key, f"{count} of {owner_rows} vocabulary rows are merged, matched by token")


def _rows(names: Sequence[str], model: OpenModel) -> str:
    """Where some of a model's tokens stand in its table: `row 7`, `rows 32000 to 32003`, `between rows 5 and 900`."""
    rows = sorted((model.tokens or {})[name] for name in names)
    if rows[0] == rows[-1]:
        return f"row {rows[0]}"
    close = rows[-1] - rows[0] == len(rows) - 1
    return f"rows {rows[0]} to {rows[-1]}" if close else f"between rows {rows[0]} and {rows[-1]}"


def _other_tokens(model: OpenModel, owner: OpenModel) -> str:
    """Which rows are other tokens in the owner, in words; empty if none is, or a tokenizer is missing."""
    here, there = ({row: token for token, row in (one.tokens or {}).items()} for one in (model, owner))
    rows = [row for row in sorted(here.keys() & there.keys()) if here[row] != there[row]]
    if not rows:
        return ""
    first = rows[0]
    return f"{len(rows)} are other tokens: row {first} is {here[first]!r} in it and {there[first]!r} in {owner.label}"
