"""mergekit's `tokenizer_source`, `tokenizer` and `chat_template`: whose vocabulary and template the output gets.

Knows tokens and templates as read from model folders; no weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evovlm.models.chat_templates import tokenizer_template
from evovlm.models.configuration import read_config, text_config_of
from evovlm.models.vocabulary import LEAST_OF_OWNER, name_some, read_vocabulary
from evovlm.recipe.mergekit._models import Model, name_of, parse_model
from evovlm.recipe.mergekit._settings import mapping
from evovlm.recipe.mergekit._templates import NAMED
from evovlm.system.errors import RecipeError, UserError

LEAST_TEMPLATE = 20  # characters; mergekit takes shorter ones for misspelt names
FolderOf = Callable[[Model], Path]


def read_vocabulary_keys(
    content: Mapping[str, Any], sources: Mapping[Model, str], base: Model | None, folder_of: FolderOf
) -> dict[str, Any]:
    """A recipe's `vocab` and, if needed, `owner`. Without a key, vocabularies must agree.

    `folder_of`: finds a model on this machine, or raises UserError.
    """
    key, source = "tokenizer_source", content.get("tokenizer_source")
    if content.get("tokenizer") is not None:
        if source is not None:
            raise RecipeError("tokenizer_source: there is `tokenizer` too; keep one of them")
        tokenizer = mapping(content["tokenizer"], "tokenizer")
        key, source = "tokenizer.source", tokenizer.get("source") or "union"
        for other, value in tokenizer.items():
            if other != "source" and value:
                raise RecipeError(f"tokenizer.{other}: evovlm keeps the tokens and rows of one model; remove the key")
    if source is None:
        return {"vocab": "same"}
    if source == "union":
        return _union(key, [*([base] if base is not None else []), *sources], base, sources, folder_of)
    if source == "base":
        if base is None:
            raise RecipeError(f"{key}: is base, but there is no base_model; name a model, or set base_model")
        return {"vocab": "match"}
    model = parse_model(source.removeprefix("model:") if isinstance(source, str) else source, key)
    if model == base:
        return {"vocab": "match"}
    if model not in sources:
        known = ", ".join(name_of(one) for one in sources)
        raise RecipeError(f"{key}: {name_of(model)!r} is not one of the merged models; choose from {known}, or base")
    return {"vocab": "match", "owner": sources[model]}


def _union(
    key: str, models: Sequence[Model], base: Model | None, sources: Mapping[Model, str], folder_of: FolderOf
) -> dict[str, Any]:
    """The union of vocabularies, where the first model's (the base's, if there is one) holds all the others'."""
    listed = list(dict.fromkeys(models))
    tables = {model: _tokens(key, model, folder_of) for model in listed}
    reference = listed[0]
    owner = {} if reference == base else {"owner": sources[reference]}
    whole = tables[reference]
    others = {model: tokens for model, tokens in tables.items() if model != reference and tokens is not None}
    if whole is None:
        raise RecipeError(f"{key}: {name_of(reference)} has no tokenizer files to unite with; name the model that has")
    for model, tokens in others.items():
        added = [token for token in tokens if token not in whole]
        if added:
            raise RecipeError(
                f"{key}: the union would add {len(added)} tokens of {name_of(model)} that {name_of(reference)} lacks:"
                f" {name_some(added)}; evovlm adds no tokens. Name the model whose tokenizer the output gets"
            )
    lacking = Counter(token for tokens in others.values() for token in whole if token not in tokens)
    if base is None and any(count < len(others) for count in lacking.values()):
        token = next(token for token, count in lacking.items() if count < len(others))
        raise RecipeError(
            f"{key}: {token!r} is in some of the models and not in all, so mergekit would give the others its mean row;"
            " evovlm takes one model's. Name the model whose tokenizer the output gets"
        )
    some = any(len(tokens.keys() & whole.keys()) < LEAST_OF_OWNER * len(whole) for tokens in others.values())
    return {"vocab": "shared" if some else "match", **owner}


def _tokens(key: str, model: Model, folder_of: FolderOf) -> dict[str, int] | None:
    """A model's tokens that have a row, as config.json counts them; None without a tokenizer."""
    try:
        folder = folder_of(model)
        tokens = read_vocabulary(folder)
        rows = text_config_of(read_config(folder)).get("vocab_size")
    except UserError as error:
        raise RecipeError(
            f"{key}: a union needs the tokenizers of all models on this machine ({error}); or name a model"
        ) from None
    if tokens is None or not isinstance(rows, int):
        return tokens
    return {token: row for token, row in tokens.items() if row < rows}


def read_chat_template(value: Any, models: Sequence[Model], owner: Model, folder_of: FolderOf) -> str | None:
    """The template that the output gets in place of `owner`'s; None if it keeps that one.

    `models`: in the order of the file, for `auto`.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise RecipeError(f"chat_template: {value!r} is not text; give auto, one of {sorted(NAMED)}, or a template")
    if value != "auto":
        if value in NAMED:
            return NAMED[value]
        if len(value) < LEAST_TEMPLATE or "{" not in value:
            raise RecipeError(
                f"chat_template: {value!r} is neither auto nor one of {sorted(NAMED)}, nor a Jinja template (with a"
                f" brace and at least {LEAST_TEMPLATE} characters)"
            )
        return value
    found = {}
    for model in dict.fromkeys(models):
        try:
            found[model] = tokenizer_template(folder_of(model))
        except UserError as error:
            raise RecipeError(
                f"chat_template: auto needs the tokenizers of all models on this machine ({error}); or name a template"
            ) from None
    votes = Counter(template for template in found.values() if template is not None)
    if not votes:
        return None
    chosen = votes.most_common(1)[0][0]  # of equally many the first listed
    return None if chosen == found.get(owner) else chosen
