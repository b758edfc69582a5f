"""Whether the token ids that a model's files name are rows of its embedding table, and agree with one another.

Knows configurations as read, token tables and row numbers; no weights. An id that is no row is never used as an index:
a negative one would silently be a row counted from the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.models.families import family_of
from evovlm.models.model_files import read_object
from evovlm.models.vocabulary import CONTROL, name_some

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
IMAGE_TOKENS = ("image_token_index", "image_token_id")
# Without these a model never stops, or does not find its picture. Others are not needed to answer.
NEEDED = ("eos_token_id", *IMAGE_TOKENS)
IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class IdFault:
    """One id that is no row, or that two files give differently. fatal: the model cannot be asked."""

    key: str
    text: str
    fatal: bool


def id_faults(
    configs: Mapping[str, Mapping[str, Any]],
    tokens: Mapping[str, int] | None,
    rows: int,
    image_token: str | None = None,
) -> Iterator[IdFault]:
    """Find ids outside the table, tokens beyond it, and an image token with two ids.

    configs: by the name that messages give them, as read from JSON. tokens: the tokenizer's, None if unknown. rows: of
    the embedding table. image_token: the tokenizer's placeholder for pictures, None for language models.
    """
    for where, config in configs.items():
        for key in (*TOKENS, *IMAGE_TOKENS):
            given = config.get(key)
            ids = _ids_in(given)
            if any(not 0 <= one < rows for one in ids):
                told = ids[0] if len(ids) == 1 else ids
                fatal = key in NEEDED or (key == "pad_token_id" and max(ids) >= rows)
                rest = "" if fatal else "; it is read as none"
                text = f"{key} is {told} in {where}, but the embedding table has rows 0 to {rows - 1}{rest}"
                yield IdFault(key, text, fatal)
            elif key in IMAGE_TOKENS and ids and tokens is not None and image_token in tokens:
                assert image_token is not None
                if tokens[image_token] not in ids:
                    text = (
                        f"{key} is {ids[0]} in {where}, but the tokenizer's {image_token} is {tokens[image_token]};"
                        " make them the same id"
                    )
                    yield IdFault(key, text, fatal=True)
    yield from _beyond(tokens or {}, rows)


def placeholder_of(folder: Path, config: Mapping[str, Any], tokens: Mapping[str, int] | None) -> str | None:
    """The token that stands for pictures, from the model's family or its files; None if there is none.

    config: the content of its config.json. Raises CheckpointError if one of the files is damaged.
    """
    known = family_of(config).placeholder
    if known is not None:
        return known
    for name in ("processor_config.json", "tokenizer_config.json"):
        said = (read_object(folder / name) or {}).get("image_token")
        said = said.get("content") if isinstance(said, dict) else said
        if isinstance(said, str):
            return said
    return IMAGE_TOKEN if tokens is not None and IMAGE_TOKEN in tokens else None


def _beyond(tokens: Mapping[str, int], rows: int) -> Iterator[IdFault]:
    """Tokens without a row. Fine-tunes often add a `[PAD]` that is never used; ordinary tokens occur in texts."""
    beyond = sorted((token for token, row in tokens.items() if row >= rows), key=tokens.__getitem__)
    if not beyond:
        return
    ordinary = [token for token in beyond if not CONTROL.fullmatch(token)]
    text = (
        f"the tokenizer has {len(beyond)} tokens beyond the {rows} rows of the embedding table:"
        f" {name_some(ordinary or beyond)}; take tokenizer and weights from the same revision"
    )
    yield IdFault("tokenizer", text, bool(ordinary))


def _ids_in(given: Any) -> list[int]:
    """The ids in a value of a configuration: one, several, or none."""
    each = given if isinstance(given, list) else [given]
    return [one for one in each if isinstance(one, int) and not isinstance(one, bool)]
