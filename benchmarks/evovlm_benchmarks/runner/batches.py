"""How many questions a model can answer at once: from the memory that is free and what a row's cache takes.

Knows the engine's model and its device; asks no questions. A guess that proves too large is halved by the engine.
"""

from __future__ import annotations

import psutil
import torch

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation

LARGEST = 128
# Of the free memory: the rest is for activations, vision features and whatever else runs.
SHARE = 0.5
LIKELY_PROMPT = 512  # tokens
LIKELY_IMAGE = 2880  # tokens of a LLaVA-NeXT picture, the longest of those that are read


def fitting_batch(engine: Engine, generation: Generation) -> int:
    """A power of two, at most 128, that should fit."""
    fits = int(_free(engine) * SHARE / row_bytes(engine, generation))
    batch = 1
    while batch * 2 <= min(fits, LARGEST):
        batch *= 2
    return batch


def row_bytes(engine: Engine, generation: Generation) -> int:
    """Bytes that one question takes: keys and values of all layers and beams, and its logits."""
    config = engine.decoder.config
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * config.num_hidden_layers * getattr(config, "num_key_value_heads", heads) * head_size
    longest = LIKELY_PROMPT + generation.max_new_tokens
    if engine.sees:
        # A picture takes what the model's own tiles take; small models have small pictures.
        vision = engine.model.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        longest += min(LIKELY_IMAGE, 5 * patches)
    width = torch.finfo(engine.dtype).bits // 8
    return int(generation.num_beams * (longest * kept * width + 4 * 4 * config.vocab_size))


def _free(engine: Engine) -> int:
    device = torch.device(engine.device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
