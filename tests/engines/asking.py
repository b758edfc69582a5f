"""Questions for small models, and what transformers' own `generate` says to them."""

from typing import Any

from PIL import Image

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item

ASK = Generation("<image>\n{question}", max_new_tokens=12)
TALK = Generation("{question}", max_new_tokens=12)
WORDS = ["a", "what is this", "how many red things are there in it", "one two three four five six seven"]
COLOURS = ["red", "blue", "green", "white"]


def items(count: int, *, seeing: bool) -> list[Item]:
    def paint(index: int) -> Image.Image:
        size = (40 + 10 * (index % 3), 40)
        return Image.new("RGB", size, COLOURS[index % len(COLOURS)])

    return [
        Item(
            id=str(index),
            question=" ".join([WORDS[index % len(WORDS)]] * (1 + index % 2)),
            references=("x",),
            image=(lambda index=index: paint(index)) if seeing else None,
        )
        for index in range(count)
    ]


def plain(engine: Engine, item: Item, generation: Generation, **more: Any) -> str:
    """What `generate` says to one prompt, pixels and all."""
    text = generation.template.replace("{question}", item.question)
    if engine.sees:
        assert item.image is not None
        inputs = engine.processor(text=text, images=item.image(), return_tensors="pt")
    else:
        inputs = engine.tokenizer(text, return_tensors="pt")
    made = engine.model.generate(**inputs, max_new_tokens=generation.max_new_tokens, do_sample=False, **more)
    said = made[0, inputs["input_ids"].shape[1] :]
    return str(engine.tokenizer.decode(said, skip_special_tokens=True)).strip()
