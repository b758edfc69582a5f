"""Questions as user messages in a model's own chat template, up to the start of the answer.

Knows templates, tokenizers and processors; opens no pictures and makes no tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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


class Placed(str):
    """A chat template that is not of the model's own files, and the place where it can be corrected."""

    __slots__ = ("place",)
    place: str

    def __new__(cls, template: str, place: str) -> Placed:
        """`place`: for messages, such as a file or a key of a recipe."""
        made = super().__new__(cls, template)
        made.place = place
        return made

    def __reduce__(self) -> tuple[type[Placed], tuple[str, str]]:
        return Placed, (str(self), self.place)


def set_template(reader: Any, template: str, place: str = "the recipe's `chat_template`") -> None:
    """Let a tokenizer or a processor ask in another chat template. `place`: where it stands, if it does not say so."""
    placed = template if isinstance(template, Placed) else Placed(template, place)
    reader.chat_template = getattr(reader, "tokenizer", reader).chat_template = placed


def lend_template(reader: Any, template: str | None) -> bool:
    """Let a tokenizer or a processor that has no chat template ask in this one, if there is one. Whether it now does.

    A language model from before its instructions, such as a recipe's base, has none: it is asked as the merged model.
    """
    if template is None or template_of(reader) is not None:
        return False
    set_template(reader, template, "the chat template of the merged model")
    return True


def in_chat(reader: Any, texts: Sequence[str], *, sees: bool = False, names: Sequence[str] = ()) -> list[str]:
    """Return each text as a user message in the model's own chat template, up to the start of the answer.

    `sees`: in place of <image> in a text comes the template's own mark for a picture. `names`: of the texts, for
    messages. Raises DataError if `reader` has no chat template, or it cannot be rendered or leaves out some of a text.
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
        contents = [shape(text) for text in (QUESTION, *texts)]
        try:
            first, *rendered = render(template, [[{"role": "user", "content": one}] for one in contents], variables)
        except DataError as error:
            refused = refused or error
            if UNRENDERED not in str(error):
                break  # it took too long, which it would again
            continue
        if QUESTION not in first:
            continue
        for number, (content, text) in enumerate(zip(contents[1:], rendered, strict=True)):
            if not _contains(text, content):
                whose = f"item {names[number]}" if names else f"{texts[number][:80]!r}"
                raise DataError(
                    f"{_place_of(reader, template)}: the model's chat template leaves out some of the text of {whose};"
                    " correct it, or choose a preset without `chat`"
                )
        return rendered
    told = refused or "the model's chat template leaves out the question; correct it, or choose a preset without `chat`"
    raise DataError(f"{_place_of(reader, template)}: {told}")


def _contains(rendered: str, content: Any) -> bool:
    """Whether a rendered message has all texts of its content in their order, whatever it makes of white space."""
    whole, place = "".join(rendered.split()), 0
    for text in _texts_of(content):
        # Some templates write texts as JSON does.
        forms = ("".join(form.split()) for form in (text, json.dumps(text.strip(), ensure_ascii=False)[1:-1]))
        ends = [at + len(form) for form in forms if (at := whole.find(form, place)) >= 0]
        if not ends:
            return False
        place = min(ends)
    return True


def _texts_of(content: Any) -> Iterator[str]:
    """The texts of a message's content."""
    parts = [_part(content)] if isinstance(content, str) else content
    return (part["text"] for part in parts if part["type"] == "text")


def added_tokens(reader: Any, text: str) -> dict[str, bool]:
    """Whether a rendered text still gets a start token, as arguments of a tokenizer or a processor.

    As transformers has it: never from a tokenizer alone; from a processor if the template has not written it.
    """
    tokenizer = getattr(reader, "tokenizer", None)
    start = None if tokenizer is None else tokenizer.bos_token
    written = tokenizer is None or (start is not None and text.startswith(start))
    return {"add_special_tokens": False} if written else {}


def refuse_marks(reader: Any, text: str, marks: Sequence[str], asked: str) -> None:
    """Raise DataError if a chat template has not written one mark, of those that a processor takes for a picture.

    text: the rendered message. asked: what it was made of; the marks in it are not the template's.
    """
    if not marks:
        return
    written = {mark: text.count(mark) - asked.replace(IMAGE, "").count(mark) for mark in marks}
    if max(written.values()) == 1:
        return
    mark, count = max(written.items(), key=lambda one: one[1])
    what = f"{count} marks for a picture ({mark})" if count > 1 else f"no mark for a picture, such as {marks[0]}"
    place = _place_of(reader, template_of(reader, sees=True))
    raise DataError(f"{place}: the model's chat template writes {what}; correct it, or choose a preset without `chat`")


def _part(text: str) -> dict[str, str]:
    # Pixtral's template reads a part's `content`, those of other families its `text`.
    return {"type": "text", "text": text, "content": text}


def _with_picture(text: str) -> list[dict[str, str]]:
    """The parts of a message in the order of the text; a text that does not say where comes after the picture."""
    before, mark, after = text.partition(IMAGE)
    if not mark:
        before, after = "", text
    after = after.removeprefix("\n")
    return [*([_part(before)] if before.strip() else []), {"type": "image"}, *([_part(after)] if after else [])]


# Messages without a picture. Language models' templates take texts; some vision-language models' take lists alone, and
# leave out a text.
SHAPES: tuple[Callable[[str], Any], ...] = (lambda text: text, lambda text: [_part(text)])


def _folder_of(reader: Any) -> str:
    """The folder that a tokenizer or a processor was read from."""
    return str(getattr(getattr(reader, "tokenizer", reader), "name_or_path", "") or "a model in memory")


def _place_of(reader: Any, template: str | None) -> str:
    """Where a reader's chat template can be corrected: see `Placed`; else the file of the model's folder."""
    return template.place if isinstance(template, Placed) else template_file(_folder_of(reader))
