"""The page: choose a scene, ask in Japanese, see what each model answers. Knows gradio and the shelf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from app.shelf import Shelf
from evovlm.tasks import Item, Task

LONGEST_QUESTION = 200
MOST_PIXELS = 4_000_000
INTRODUCTION = """# evovlm
同じ質問に、元のモデルと、進化で見つけた配合で合成したモデルが答えます。
The same question, answered by the source models and by the merge that evolution found.

小さなモデル(zoo)は、描かれた図形の絵だけを知っています。 The zoo's models know rendered scenes only; merged models
inherit the faults of their sources.
"""


def build_page(shelf: Shelf, task: Task, samples: Sequence[Item]) -> gr.Blocks:
    """The app for these models and sample items (each with an image)."""

    def choose(event: gr.SelectData) -> tuple[Any, str]:
        item = samples[event.index]
        assert item.image is not None
        return item.image(), item.question

    def ask(image: Image.Image | None, question: str) -> list[list[str]]:
        if image is None:
            raise gr.Error("絵を選んでください。 Choose an image first.")
        if not question.strip() or len(question) > LONGEST_QUESTION:
            raise gr.Error(f"質問は1〜{LONGEST_QUESTION}文字で。 Ask in 1 to {LONGEST_QUESTION} characters.")
        if image.width * image.height > MOST_PIXELS:
            raise gr.Error("絵が大きすぎます。 The image is too large.")
        picture = image.convert("RGB")
        item = Item(id="visitor", question=question.strip(), references=("",), image=lambda: picture)
        return [[name, shelf.answer(name, task, item)] for name in shelf.names]

    pictures = [(item.image(), item.question) for item in samples if item.image is not None]
    with gr.Blocks(title="evovlm", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                gallery = gr.Gallery(pictures, label="例 / Samples", columns=4, height=260, allow_preview=False)
                image = gr.Image(type="pil", label="絵 / Image", sources=["upload", "clipboard"], height=240)
            with gr.Column():
                question = gr.Textbox(label="質問 / Question", lines=2, max_length=LONGEST_QUESTION)
                button = gr.Button("聞く / Ask", variant="primary")
                answers = gr.Dataframe(
                    headers=["モデル / Model", "答え / Answer"], label="答え / Answers", interactive=False, wrap=True
                )
        gallery.select(choose, None, [image, question], api_visibility="private")
        button.click(ask, [image, question], answers, api_name="compare", concurrency_limit=1)
        question.submit(ask, [image, question], answers, api_visibility="private", concurrency_limit=1)
    return page
