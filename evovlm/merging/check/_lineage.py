"""What a model was tuned from, where its card or configuration says so, against the recipe's base.

Knows names of models on the hub; compares no weights. A name counts as another's if both end alike, because models are
copied between owners and into folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evovlm.merging.check._card import front_matter
from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.open_model import HUB_ID, OpenModel

CARD, CONFIG = "base_model in README.md", "_name_or_path in config.json"
MOST_NAME = 200  # characters; the hub allows fewer
MOST_NAMES = 8
MERGES = ("merge", "mergekit", "mergekit-merge")  # tags of cards that merging programs write


def check_lineage(model: OpenModel, base: OpenModel | None) -> Iterator[Finding]:
    """Report what a model was tuned or merged from, and whether that is the recipe's base.

    `base`: the base of a method that needs one; None to compare with none.
    """
    front = front_matter(model.folder)
    by_card = _names(front.get("base_model"), model)
    by_config = _names(model.text_config.get("_name_or_path"), model)
    if not by_card and not by_config:
        return
    tags = front.get("tags")
    merged = front.get("base_model_relation") == "merge" or bool({*MERGES} & set(map(str, _listed(tags))))
    said = [f"{_all(names)} ({place})" for names, place in ((by_card, CARD), (by_config, CONFIG)) if names]
    key = model_key(model, "merged_from" if merged and by_card else "tuned_from")
    text = " and ".join(said)
    # A vision-language model's card may name another vision-language model, or its parts: only a match says something.
    claims = by_config if model.layout.kind == "vlm" else (*by_card, *by_config)
    other = base is not None and base is not model and not merged and bool(claims)
    if base is None or not other or any(_last(name) in _names_of(base) for name in (*by_card, *by_config)):
        yield Finding("note", key, text)
    elif base.origin is None:  # a folder may be called anything
        yield Finding("note", key, f"{text}; make sure that the base ({base.folder.name}) is that model")
    else:
        text += (
            f", but the recipe's base is {base.origin.repository}: the difference from it also holds what these two"
            " differ in; set `base` to the model that all sources were tuned from, or choose another source"
        )
        yield Finding("warning", key, text)


def _names(given: Any, model: OpenModel) -> tuple[str, ...]:
    """The ids of the hub in a setting, without the model's own: folders of those who trained it tell nothing."""
    named = [name for name in _listed(given) if isinstance(name, str) and len(name) <= MOST_NAME]
    own = _names_of(model)
    return tuple(name for name in named[:MOST_NAMES] if HUB_ID.fullmatch(name) and _last(name) not in own)


def _names_of(model: OpenModel) -> set[str]:
    named = model.folder.name if model.origin is None else model.origin.repository
    return {_last(named)}


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1].casefold()


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _all(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
