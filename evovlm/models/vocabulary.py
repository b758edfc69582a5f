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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from evovlm.models._text_growth import refuse_growth
from evovlm.models.model_files import is_there, kind_of, most_bytes, read_object
from evovlm.system.bounded_json import shown
from evovlm.system.errors import CheckpointError, RecipeError

LEAST_OF_OWNER = 0.98
LEAST_OF_MODEL = 0.95
# Control tokens (<image>, [PAD], <|im_end|>, <0x0A>) vary between fine-tunes and do not affect how text is tokenised.
CONTROL = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")

MOST_IDS = 2**31
ID = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class RowMatch:
    """The model's row for every vocabulary row of the output."""

    rows: Tensor  # int64 [output rows]: the model's row, or -1 if it has none
    missing: tuple[str, ...]  # the owner's tokens that the model lacks
    extra: tuple[str, ...]  # the model's tokens that the owner lacks; they are dropped
    identity: bool  # rows is 0, 1, 2, ... and the model has equally many


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Token to id, from tokenizer.json, tokenizer.model or vocab.json plus added tokens; None without a tokenizer.

    Raises CheckpointError, naming file and token, if a tokenizer file is damaged.
    """
    for name, read in (
        ("tokenizer.json", _from_tokenizer_json),
        ("tokenizer.model", _from_sentencepiece),
        ("vocab.json", _from_json_table),
    ):
        if is_there(folder / name, most_bytes(name)):
            return {**read(folder / name), **_added_tokens(folder)}
    return None


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
    content = read_object(path) or {}
    refuse_growth(path, content)
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):  # Unigram: [piece, score] in id order
        tokens = {_piece(path, row, piece): row for row, piece in enumerate(vocab)}
    else:
        tokens = _table(path, "model.vocab", vocab)
    added = content.get("added_tokens") or []
    if not isinstance(added, list):
        raise _damaged(path, f"`added_tokens` must be a list, not {kind_of(added)}")
    for token in added:
        tokens |= _added(path, "added_tokens", token, token.get("id") if isinstance(token, dict) else None)
    return tokens


def _piece(path: Path, row: int, piece: Any) -> str:
    if not (isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str)):
        raise _damaged(path, f"`model.vocab.{row}` must be a piece and its score")
    return piece[0]


def _from_sentencepiece(path: Path) -> dict[str, int]:
    from sentencepiece import SentencePieceProcessor

    try:
        pieces: Any = SentencePieceProcessor(model_file=str(path))
        return {pieces.id_to_piece(row): row for row in range(pieces.get_piece_size())}
    except Exception as error:  # its parser raises several kinds for damaged files
        raise _damaged(path, f"it is no SentencePiece model ({shown(error)})") from error


def _from_json_table(path: Path) -> dict[str, int]:
    return _table(path, "its content", read_object(path))


def _table(path: Path, key: str, table: Any) -> dict[str, int]:
    """A JSON object from token to id."""
    if not isinstance(table, dict):
        raise _damaged(path, f"`{key}` must be an object from token to id, not {kind_of(table)}")
    for token, row in table.items():
        if type(row) is not int or not 0 <= row < MOST_IDS:
            raise _bad_id(path, token, row)
    return table


def _added_tokens(folder: Path) -> dict[str, int]:
    """Tokens that a fine-tune added, which may be missing from its tokenizer file."""
    tokens: dict[str, int] = {}
    if is_there(folder / "added_tokens.json"):
        tokens |= _from_json_table(folder / "added_tokens.json")
    path = folder / "tokenizer_config.json"
    added = (read_object(path) or {}).get("added_tokens_decoder") or {}
    if not isinstance(added, dict):
        raise _damaged(path, f"`added_tokens_decoder` must be an object, not {kind_of(added)}")
    for row, token in added.items():
        tokens |= _added(path, "added_tokens_decoder", token, int(row) if ID.fullmatch(row) else row)
    return tokens


def _added(path: Path, key: str, token: Any, row: Any) -> dict[str, int]:
    if not isinstance(token, dict) or not isinstance(token.get("content"), str):
        raise _damaged(path, f"`{key}` must name tokens by `content` and an id")
    if type(row) is not int or not 0 <= row < MOST_IDS:
        raise _bad_id(path, token["content"], row)
    return {token["content"]: row}


def _bad_id(path: Path, token: str, row: Any) -> CheckpointError:
    # As an index, a negative id would be a row counted from the end.
    told = shown(row) if isinstance(row, int | float | str) else kind_of(row)
    return _damaged(path, f"the token {shown(repr(token))} has the id {told}, but ids are whole numbers from 0")


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path}: {problem}; fetch it again")
