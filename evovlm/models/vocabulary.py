"""Vocabularies: which row of a model's embedding table matches which row of the output's.

Knows token tables and row numbers; no weights. Tokenizer files are read as data, never through remote code.

Rows are matched by token, not by position: two models with the same tokens in a different order merge correctly, and
rows without a token (padding up to a round size) stay the owner's. The policies (`vocab` in a recipe):

- `match`: refused unless the model has at least 98 % of the owner's ordinary tokens and the owner at least 95 % of
  the model's. LLaVA's 32064 rows and Mistral's 32000 pass; a fine-tune with one more `[PAD]` passes and the token is
  named; a vocabulary extended from 32000 to 120128 is refused, because its shared rows were trained for a different
  tokenisation.
- `shared`: shared tokens are merged, however few; the other rows are the owner's.
- `tower`: embeddings and head are the owner's, unmerged.
- `position`: row i is merged with row i, regardless of tokens.
- `same`: row i is merged with row i, and refused if they are not the same token; only padding may differ. What
  mergekit's files mean that name no tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from evovlm.system.errors import CheckpointError, RecipeError

LEAST_OF_OWNER = 0.98
LEAST_OF_MODEL = 0.95
# Control tokens (<image>, [PAD], <|im_end|>, <0x0A>) vary between fine-tunes and do not affect how text is tokenised.
CONTROL = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


@dataclass(frozen=True)
class RowMatch:
    """The model's row for every vocabulary row of the output."""

    rows: Tensor  # int64 [output rows]: the model's row, or -1 if it has none
    missing: tuple[str, ...]  # the owner's tokens that the model lacks
    extra: tuple[str, ...]  # the model's tokens that the owner lacks; they are dropped
    identity: bool  # rows is 0, 1, 2, ... and the model has equally many


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Token to id, from tokenizer.json, tokenizer.model or vocab.json plus added tokens; None without a tokenizer.

    Raises CheckpointError if a tokenizer file cannot be read.
    """
    for name, read in (
        ("tokenizer.json", _from_tokenizer_json),
        ("tokenizer.model", _from_sentencepiece),
        ("vocab.json", _from_json_table),
    ):
        if (folder / name).is_file():
            return {**_read_tokens(folder / name, read), **_added_tokens(folder)}
    return None


def _read_tokens(path: Path, read: Callable[[Path], dict[str, int]]) -> dict[str, int]:
    """Read a tokenizer file. Raises CheckpointError, which names the file, if it cannot be read."""
    try:
        tokens = read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read as a tokenizer file ({error!r}); fetch it again") from error
    # As an index, a negative id would be a row counted from the end.
    for token, row in tokens.items():
        if row < 0:
            raise CheckpointError(f"{path}: the token {token!r} has the id {row}, but ids start at 0; fetch it again")
    return tokens


def match_rows(
    owner_tokens: Mapping[str, int] | None,
    owner_rows: int,
    tokens: Mapping[str, int] | None,
    rows: int,
    policy: Literal["match", "shared", "tower", "position", "same"],
    place: str,
) -> RowMatch:
    """Match a model's vocabulary rows to the owner's under a recipe's policy; `place` names the model in errors.

    `owner_rows`, `rows`: number of rows in the embedding tables. Raises RecipeError if the policy refuses the model.
    """
    if policy == "tower":
        return RowMatch(torch.full((owner_rows,), -1), missing=(), extra=(), identity=False)
    if policy == "position" or (owner_rows == rows and (owner_tokens is None or tokens is None)):
        return _by_position(owner_rows, rows)
    if owner_tokens is None or tokens is None:
        who = "it" if tokens is None else "the owner"
        raise RecipeError(
            f"{place}: {rows} vocabulary rows against the owner's {owner_rows}, and {who} has no tokenizer"
            " files to match them by; set `vocab: position` if row i is row i, or `vocab: tower` to keep the owner's"
        )
    if policy == "same":
        _refuse_other_rows(owner_tokens, owner_rows, tokens, rows, place)
        return _by_position(owner_rows, rows)
    match = _by_token(owner_tokens, owner_rows, tokens, rows)
    if policy == "match":
        _refuse_strangers(owner_tokens, tokens, match, place)
    elif bool((match.rows < 0).all()):
        raise RecipeError(f"{place}: no token is shared with the owner; set `vocab: tower`")
    return match


def _by_position(owner_rows: int, rows: int) -> RowMatch:
    matched = torch.arange(owner_rows)
    matched[rows:] = -1
    return RowMatch(matched, missing=(), extra=(), identity=owner_rows == rows)


def _refuse_other_rows(
    owner_tokens: Mapping[str, int], owner_rows: int, tokens: Mapping[str, int], rows: int, place: str
) -> None:
    """Raise RecipeError, naming the first of them, if a row is not the same token in both (or in neither)."""
    here, there = (
        {row: token for token, row in table.items() if row < most}
        for table, most in ((owner_tokens, owner_rows), (tokens, rows))
    )
    differing = sorted(row for row in here.keys() | there.keys() if here.get(row) != there.get(row))
    if not differing:
        return
    row = differing[0]
    a, b = (repr(table[row]) if row in table else "no token" for table in (here, there))
    raise RecipeError(
        f"{place}: vocabularies differ in {len(differing)} rows, the first is row {row}: {a} in the owner, {b} in it."
        " Set `vocab: match` to match rows by token, in mergekit's YAML `tokenizer_source: base` or a model; or choose"
        " another source"
    )


def _by_token(owner_tokens: Mapping[str, int], owner_rows: int, tokens: Mapping[str, int], rows: int) -> RowMatch:
    """Match rows by token. A token whose id is beyond its table has no row and counts as missing."""
    matched = torch.full((owner_rows,), -1)
    pairs = [
        (row, tokens[token])
        for token, row in owner_tokens.items()
        if row < owner_rows and tokens.get(token, rows) < rows
    ]
    if pairs:
        here, there = torch.tensor(pairs).unbind(dim=1)
        matched[here] = there
    return RowMatch(
        matched,
        missing=_without(owner_tokens, owner_rows, tokens, rows),
        extra=_without(tokens, rows, owner_tokens, owner_rows),
        identity=owner_rows == rows and torch.equal(matched, torch.arange(owner_rows)),
    )


def _without(tokens: Mapping[str, int], rows: int, others: Mapping[str, int], other_rows: int) -> tuple[str, ...]:
    """The tokens that have a row in `tokens` but none in `others`, in the order of their ids."""
    lacking = [token for token, row in tokens.items() if row < rows and others.get(token, other_rows) >= other_rows]
    return tuple(sorted(lacking, key=tokens.__getitem__))


def _refuse_strangers(owner_tokens: Mapping[str, int], tokens: Mapping[str, int], match: RowMatch, place: str) -> None:
    known_by_model = 1 - _share(match.missing, owner_tokens)
    known_by_owner = 1 - _share(match.extra, tokens)
    if known_by_model >= LEAST_OF_OWNER and known_by_owner >= LEAST_OF_MODEL:
        return
    raise RecipeError(
        f"{place}: vocabularies differ: it has {known_by_model:.1%} of the owner's ordinary tokens (at least"
        f" {LEAST_OF_OWNER:.0%} needed; it lacks {name_some(match.missing)}) and the owner has {known_by_owner:.1%} of"
        f" its {len(tokens)} (at least {LEAST_OF_MODEL:.0%} needed; {name_some(match.extra)} would be dropped). Set"
        " `vocab: tower` to keep the owner's embeddings and head, `vocab: shared` to merge the tokens that both have,"
        " or `vocab: position` if the ids mean the same; or choose another source"
    )


def _share(part: Sequence[str], whole: Mapping[str, int]) -> float:
    """The number of ordinary tokens in `part`, as a share (0 to 1) of those in `whole`."""
    ordinary = sum(not CONTROL.fullmatch(token) for token in whole)
    return sum(not CONTROL.fullmatch(token) for token in part) / max(ordinary, 1)


def name_some(tokens: Sequence[str], most: int = 4) -> str:
    """The first few tokens and the number of others, for messages."""
    if not tokens:
        return "none"
    some = ", ".join(repr(token) for token in tokens[:most])
    return some if len(tokens) <= most else f"{some} and {len(tokens) - most} more"


def _from_tokenizer_json(path: Path) -> dict[str, int]:
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):  # Unigram: [piece, score] in id order
        tokens = {str(piece): row for row, (piece, _) in enumerate(vocab)}
    else:
        tokens = {str(token): int(row) for token, row in vocab.items()}
    for added in content.get("added_tokens") or ():
        tokens[added["content"]] = int(added["id"])
    return tokens


def _from_sentencepiece(path: Path) -> dict[str, int]:
    from sentencepiece import SentencePieceProcessor

    pieces: Any = SentencePieceProcessor(model_file=str(path))
    return {pieces.id_to_piece(row): row for row in range(pieces.get_piece_size())}


def _from_json_table(path: Path) -> dict[str, int]:
    return {str(token): int(row) for token, row in json.loads(path.read_text(encoding="utf-8")).items()}


def _added_tokens(folder: Path) -> dict[str, int]:
    """Tokens that a fine-tune added, which may be missing from its tokenizer file."""
    tokens: dict[str, int] = {}
    for name, read in (("added_tokens.json", _from_json_table), ("tokenizer_config.json", _from_config)):
        if (folder / name).is_file():
            tokens |= _read_tokens(folder / name, read)
    return tokens


def _from_config(path: Path) -> dict[str, int]:
    added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens_decoder") or {}
    return {token["content"]: int(row) for row, token in added.items()}
