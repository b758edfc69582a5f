"""Questions as user messages in a model's own chat template, up to the start of the answer.

Knows templates, tokenizers and processors; opens no pictures and makes no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evovlm.models.chat_templates import QUESTION, UNRENDERED, render, template_file
from evovlm.system.errors import DataError

IMAGE = "<image>"  # what stands for the picture in a preset's template


def template_of(reader: Any, *, sees: bool = False) -> str | None:
    """The chat template that a tokenizer or a processor asks in; of several the default. None if it has none.

    A vision-language model's files may give one to its processor (chat_template.json, processor_config.json), to its
    tokenizer (tokenizer_config.json) or to both (chat_template.jinja). `sees`: the processor's counts first, as
    transformers asks about pictures.
    """
    tokenizer = getattr(reader, "tokenizer", reader)
    for one in (reader, tokenizer) if sees else (tokenizer, reader):
        template = getattr(one, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        if isinstance(template, str):
            return template
    return None


def set_template(reader: Any, template: str) -> None:
    """Let a tokenizer or a processor ask in another chat template."""
    reader.chat_template = getattr(reader, "tokenizer", reader).chat_template = template


def lend_template(reader: Any, template: str | None) -> bool:
    """Let a tokenizer or a processor that has no chat template ask in this one, if there is one. Whether it now does.

    A language model from before its instructions, such as a recipe's base, has none: it is asked as the merged model.
    """
    if template is None or template_of(reader) is not None:
        return False
    set_template(reader, template)
    return True


def in_chat(reader: Any, texts: Sequence[str], *, sees: bool = False) -> list[str]:
    """Return each text as a user message in the model's own chat template, up to the start of the answer.

    `sees`: in place of <image> in a text comes the template's own mark for a picture. Raises DataError if `reader` has
    no chat template, or it cannot be rendered or leaves out the question.
    """
    if not texts:
        return []
    template = template_of(reader, sees=sees)
    if template is None:
        raise DataError(
            f"{_folder_of(reader)}: the model has no chat template; choose another preset, or give it a"
            " chat_template.jinja"
        )
    variables = getattr(reader, "tokenizer", reader).special_tokens_map
    refused: DataError | None = None
    for shape in (_with_picture,) if sees else SHAPES:
        asked = [[{"role": "user", "content": shape(text)}] for text in (QUESTION, *texts)]
        try:
            first, *rendered = render(template, asked, variables)
        except DataError as error:
            refused = refused or error
            if UNRENDERED not in str(error):
                break  # it took too long, which it would again
            continue
        if QUESTION in first:
            return rendered
    told = refused or "the model's chat template leaves out the question; correct it, or choose a preset without `chat`"
    raise DataError(f"{template_file(_folder_of(reader))}: {told}")


def added_tokens(reader: Any, text: str) -> dict[str, bool]:
    """Whether a rendered text still gets a start token, as arguments of a tokenizer or a processor.

    As transformers has it: never from a tokenizer alone; from a processor if the template has not written it.
    """
    tokenizer = getattr(reader, "tokenizer", None)
    start = None if tokenizer is None else tokenizer.bos_token
    written = tokenizer is None or (start is not None and text.startswith(start))
    return {"add_special_tokens": False} if written else {}


def refuse_without_mark(reader: Any, text: str, marks: Sequence[str]) -> None:
    """Raise DataError if a chat template has written none of the marks that a processor takes for a picture's place."""
    if marks and not any(mark in text for mark in marks):
        raise DataError(
            f"{template_file(_folder_of(reader))}: the model's chat template writes no mark for a picture, such as"
            f" {marks[0]}; correct it, or choose a preset without `chat`"
        )


def _part(text: str) -> dict[str, str]:
    # Pixtral's template reads a part's `content`, those of other families its `text`.
    return {"type": "text", "text": text, "content": text}


def _with_picture(text: str) -> list[dict[str, str]]:
    """The parts of a message in the order of the text; a text that does not say where comes after the picture."""
    before, mark, after = text.partition(IMAGE)
    if not mark:
        before, after = "", text
    after = after.removeprefix("\n").replace(IMAGE, "")
    return [*([_part(before)] if before.strip() else []), {"type": "image"}, *([_part(after)] if after else [])]


# Messages without a picture. Language models' templates take texts; some vision-language models' take lists alone, and
# leave out a text.
SHAPES: tuple[Callable[[str], Any], ...] = (lambda text: text, lambda text: [_part(text)])


def _folder_of(reader: Any) -> str:
    """The folder that a tokenizer or a processor was read from."""
    return str(getattr(getattr(reader, "tokenizer", reader), "name_or_path", "") or "a model in memory")
