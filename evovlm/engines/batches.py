"""Estimate the batch size: from the free memory and the KV cache that one row needs.

Knows the engine's model and its device; asks no questions. The engine halves an estimate that proves too large.
"""

from __future__ import annotations

from typing import Any

import psutil
import torch

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation

LARGEST = 128
# For searches on a GPU: beyond this, a step is limited by arithmetic, and more rows only take longer.
LARGEST_ON_GPU = 512
# Share of the free memory to use; the rest is for activations, vision features and other processes.
SHARE = 0.5
LIKELY_PROMPT = 512  # tokens
LIKELY_IMAGE = 2880  # tokens of a LLaVA-NeXT image, the longest of the supported models


def fitting_batch(engine: Engine, generation: Generation, largest: int = LARGEST) -> int:
    """A batch size that should fit: a power of two, 1 to `largest`."""
    fits = int(_free(engine) * SHARE / row_bytes(engine, generation))
    batch = 1
    while batch * 2 <= min(fits, largest):
        batch *= 2
    return batch


def row_bytes(engine: Engine, generation: Generation) -> int:
    """Bytes needed per question: keys and values of all layers and beams, and the logits."""
    config = engine.decoder.config
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * config.num_hidden_layers * getattr(config, "num_key_value_heads", heads) * head_size
    longest = LIKELY_PROMPT + generation.max_new_tokens
    if engine.sees:
        longest += min(LIKELY_IMAGE, 5 * _patches(engine.model.config.vision_config))
    width = torch.finfo(engine.dtype).bits // 8
    return int(generation.num_beams * (longest * kept * width + 4 * 4 * config.vocab_size))


def _patches(vision: Any) -> int:
    """Patches of a picture: an image needs as many tokens as the model's own tiles; small models have small images.

    LIKELY_IMAGE for families that take pictures of any size.
    """
    size, patch = (getattr(vision, name, None) for name in ("image_size", "patch_size"))
    size, patch = (value[0] if isinstance(value, list | tuple) else value for value in (size, patch))
    return LIKELY_IMAGE if size is None or not patch else int(size // patch) ** 2


def _free(engine: Engine) -> int:
    device = torch.device(engine.device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
