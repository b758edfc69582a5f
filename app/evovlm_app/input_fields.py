"""Input fields shared by the image tabs: galleries of images, an upload, a question with examples.

Knows gradio and samples; runs no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from evovlm_app.asking import Asker, checked
from evovlm_app.context import PRIVATE, Context
from evovlm_app.limits import LONGEST_QUESTION, Refusal
from evovlm_app.picture import Picture
from evovlm_app.words import Language, say


def pick_picture(
    context: Context, asker: Asker, name: str, *, height: int, button: str | None = None
) -> tuple[Any, ...]:
    """Return an image field, a question field, and a button beside the question.

    `button`: the key of the button's text; without it the returned button is None. Choosing a sample image also fills
    in its question. `name`: prefix of the element ids.
    """
    speak, scenes = context.speak, asker.scenes
    samples = _gallery(context, scenes.pictures, scenes.captions("en"), name, "samples")
    if samples is not None:
        context.speak.also(
            lambda language: gr.update(value=_captioned(scenes.pictures, scenes.captions(language))),
            [context.language],
            [samples],
        )
    photographs = _gallery(
        context,
        [image for image, _ in context.photographs],
        [text for _, text in context.photographs],
        name,
        "photographs",
    )
    first = scenes.pictures[0] if scenes.pictures else None
    picture = speak(
        Picture(first, sources=["upload", "clipboard"], format="png", height=height, elem_id=f"{name}-picture"),
        label="picture",
        placeholder="picture_hint",
    )
    question, asked = _question(context, asker, name, button)

    def choose_sample(event: gr.SelectData) -> tuple[Any, str]:
        place = _place(event, scenes.pictures)
        return scenes.pictures[place], scenes.questions_by_picture[place]

    def choose_photograph(event: gr.SelectData) -> Any:
        return context.photographs[_place(event, context.photographs)][0]

    def check(image: Any, language: Language) -> Any:
        try:
            return checked(image)
        except Refusal as refusal:
            # Clear the field: a refused image must not look as if it were accepted.
            gr.Warning(say(refusal.key, language, **refusal.facts), duration=8)
            return None

    if samples is not None:
        samples.select(choose_sample, None, [picture, question], queue=False, **PRIVATE)
    if photographs is not None:
        photographs.select(choose_photograph, None, picture, queue=False, **PRIVATE)
    # From here on the page shows the re-encoded image, not the visitor's file.
    picture.upload(check, [picture, context.language], picture, **PRIVATE)
    return picture, question, asked


def example_texts(context: Context, rows: list[list[str]], targets: list[Any], name: str, key: str) -> None:
    """Example texts that fill the targets in one click; the first entry of each row is shown."""
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False, render=False)],
        samples=[row[:1] for row in rows],
        type="index",
        elem_classes="examples",
        elem_id=f"{name}-examples",
    )
    context.speak(examples, label=key)

    def choose(index: int) -> Any:
        return rows[index] if len(targets) > 1 else rows[index][0]

    examples.click(choose, examples, targets, queue=False, **PRIVATE)


def _place(event: gr.SelectData, shown: Sequence[Any]) -> int:
    """The index of the chosen image. Raises Refusal if it is out of range."""
    place: int = event.index
    if place >= len(shown):
        raise Refusal("bad_choice")
    return place


def _question(context: Context, asker: Asker, name: str, words: str | None) -> tuple[Any, Any]:
    questions, button = asker.scenes.questions, None
    with gr.Row(elem_classes="asking"):
        box = gr.Textbox(
            questions[0] if questions else "",
            lines=1,
            max_length=LONGEST_QUESTION,
            elem_id=f"{name}-question",
            scale=5,
            min_width=120,
        )
        question = context.speak(box, label="question", placeholder="question_hint")
        if words is not None:
            button = context.speak(
                gr.Button(variant="primary", elem_id=f"{name}-ask", scale=1, min_width=84), value=words
            )
    if questions:
        example_texts(context, [[text] for text in questions], [question], name, "example_questions")
    return question, button


def _gallery(context: Context, pictures: list[Any], captions: list[str], name: str, key: str) -> Any:
    """A gallery whose captions serve as alternative texts, or None if there are no images."""
    if not pictures:
        return None
    gallery = gr.Gallery(
        _captioned(pictures, captions),
        columns=8,
        allow_preview=False,
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=[],
        show_label=True,
        elem_classes="samples",
        elem_id=f"{name}-{key}",
    )
    return context.speak(gallery, label=key)


def _captioned(pictures: list[Any], captions: list[str]) -> list[tuple[Any, str]]:
    return list(zip(pictures, captions, strict=True))
