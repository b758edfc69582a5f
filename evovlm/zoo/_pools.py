"""Turn examples into a pool of tensors: token ids, labels, rendered images.

Knows tokenizer and rendering; no mixtures, no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from evovlm.zoo._corpus import Example
from evovlm.zoo._fit import IGNORED, Pool
from evovlm.zoo._tokenizer import EOS_ID, PAD_ID
from evovlm.zoo.prompts import IMAGE_SIZE
from evovlm.zoo.render import render

Render = Callable[[Any, int], Image.Image]  # from a scene and the side length in pixels


def draw_images(scenes: Sequence[Any], draw: Render = render, side: int = IMAGE_SIZE) -> Tensor:
    """Render scenes: uint8 [count, 3, side, side]."""
    pixels = np.empty((len(scenes), 3, side, side), np.uint8)
    for row, scene in enumerate(scenes):
        pixels[row] = np.asarray(draw(scene, side)).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def make_pool(examples: Sequence[Example], tokenizer: Tokenizer, draw: Render = render, side: int = IMAGE_SIZE) -> Pool:
    """Encode examples as prompt, answer and end of text, padded on the right; labels are the answer and the end.

    Either all examples have a scene or none has. A scene is rendered once per example that uses it.
    """
    prompts = [encoding.ids for encoding in tokenizer.encode_batch([example.prompt for example in examples])]
    answers = [[*encoding.ids, EOS_ID] for encoding in tokenizer.encode_batch([example.answer for example in examples])]
    length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    # Two bytes per entry, because pools are sent between processes and the zoos' vocabularies are small.
    assert tokenizer.get_vocab_size() < np.iinfo(np.int16).max
    ids = np.full((len(examples), length), PAD_ID, np.int16)
    labels = np.full((len(examples), length), IGNORED, np.int16)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start, stop = len(prompt), len(prompt) + len(answer)
        ids[row, :start], ids[row, start:stop] = prompt, answer
        labels[row, start:stop] = answer
    scenes = [example.scene for example in examples if example.scene is not None]
    if not scenes:
        return Pool(torch.from_numpy(ids), torch.from_numpy(labels))
    assert len(scenes) == len(examples), "a pool holds examples with scenes or without, not both"
    pixels = draw_images(scenes, draw, side)
    return Pool(torch.from_numpy(ids), torch.from_numpy(labels), pixels, torch.arange(len(examples)))
