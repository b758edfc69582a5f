"""Checks how a model's tokenizer reads text, and its chat template, against the owner's: the output has the owner's.

Knows tokenizers' files; no weights. Vocabularies may be equal while texts are split otherwise, so texts are split.
"""

from __future__ import annotations

from collections.abc import Iterator

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.chat_templates import stored_template, template_fault
from evovlm.models.library_faults import explained
from evovlm.models.model_files import read_object
from evovlm.models.open_model import OpenModel
from evovlm.models.panics import without_reports
from evovlm.models.vocabulary import CONTROL
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError
from evovlm.system.plain_text import abridged

FILE = "tokenizer.json"
TEXTS = (
    *("What is 12 + 30? It's 42.", "日本で一番高い山は富士山です。"),
    "Two  spaces,\n\tUPPER and CamelCase, 3.14e-5 <b>.",
)
MOST_WORDS = 500  # tokens that both have, which show whether long ones are built in the same order
WORD_STARTS = str.maketrans("▁Ġ", "  ")
MOST_SHOWN = 60  # characters of a text
FLAGS = ("add_bos_token", "add_eos_token")


def check_tokenizer(model: OpenModel, owner: OpenModel) -> Iterator[Finding]:
    """Report texts that a model's tokenizer splits otherwise, and another chat template: both are the owner's."""
    if (text := _other_reading(model, owner)) is not None:
        text += f"; {owner.label}'s tokenizer is used"
        yield Finding("warning", model_key(model, "tokenizer"), text)
    mine, theirs = stored_template(model.folder), stored_template(owner.folder)
    if mine is not None and mine != theirs:
        rest = "which is used" if theirs is not None else "which has none: prompts with `chat: true` are refused"
        text = f"differs from that of {owner.label}, {rest}"
        yield Finding("warning", model_key(model, "chat_template"), text)


def check_chat_template(recipe: Recipe) -> Iterator[Finding]:
    """Refuse a chat template of the recipe's own that cannot write a question."""
    if recipe.chat_template is not None and (fault := template_fault(recipe.chat_template)) is not None:
        yield Finding("error", "chat_template", f"the template {fault}; correct it or remove the key")


def _other_reading(model: OpenModel, owner: OpenModel) -> str | None:
    """How a model's tokenizer reads texts otherwise than the owner's; None if it does not, or files are missing."""
    for flag in FLAGS:
        a, b = ((read_object(one.folder / "tokenizer_config.json") or {}).get(flag) for one in (model, owner))
        if a is not None and b is not None and a != b:
            return f"{flag} is {a} in {model.label}, {b} in {owner.label}"
    paths = [one.folder / FILE for one in (model, owner)]
    if not all(path.is_file() for path in paths) or paths[0].read_bytes() == paths[1].read_bytes():
        return None
    try:
        with explained(owner.folder), without_reports():
            return _first_difference(model, owner)
    except CheckpointError:  # it is shown when the model is loaded
        return None


def _first_difference(model: OpenModel, owner: OpenModel) -> str | None:
    """The first text that the two tokenizers read otherwise. Raises whatever tokenizers raises."""
    from tokenizers import Tokenizer

    readers = [Tokenizer.from_file(str(one.folder / FILE)) for one in (model, owner)]
    for reader in readers:  # what the files say of these can take any amount of memory, and transformers ignores it
        reader.no_padding()
        reader.no_truncation()
    shared = [token for token in owner.tokens or () if token in (model.tokens or ()) and not CONTROL.fullmatch(token)]
    words = sorted((token.translate(WORD_STARTS).strip() for token in shared), key=len)[-MOST_WORDS:]
    for text in (*TEXTS, " ".join(words), "".join(words)):
        a, b = (reader.encode(text).tokens for reader in readers)
        if a != b:
            place = next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            said = (" ".join(map(repr, tokens[place : place + 3])) or "nothing" for tokens in (a, b))
            one, other = said
            return f"{abridged(text, MOST_SHOWN)!r} is read otherwise: {one} in {model.label}, {other} in {owner.label}"
    return None
