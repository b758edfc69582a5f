"""The self-check of an engine: its logits beside those of the model's own forward pass, with and without a picture.

Knows transformers' forward pass and the engine's two paths as functions; no recipes, scores or searches. What the
engine does for speed (joined weights, its own attention and cache, image features computed once) must not change an
answer, for any family that transformers can load, so it is verified on the model at hand.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from evovlm.engines.prompts import Prompt, look, picture_mark, seeing_prompt, tokenize
from evovlm.models.families import family_of
from evovlm.system.errors import CheckpointError
from evovlm.system.faults import is_out_of_memory, machine_fault

log = logging.getLogger(__name__)

TEXT = "What is this? 12 + 30 = 42. 日本で一番高い山は何ですか。"
LEAST_TOKENS = 8
STEPS = 2  # logits are compared after the prompt and after one more token, which is read from the cache
# Rounding adds up like a random walk over the layers, with a few rounded operations per layer. Measured with the zoo's
# models and with 7B random weights (CPU and H200, float32, bfloat16, float16): at most 0.4 of the tolerance.
ROUNDINGS = 4.0
LEAST_TOLERANCE = 1e-4  # GPUs may multiply float32 matrices with fewer bits, and no wrong operation is that small

# (prompts, the token that each reads after its prompt) -> logits [STEPS, prompts, vocabulary].
Logits = Callable[[Sequence[Prompt], Sequence[int]], Tensor]


@dataclass(frozen=True)
class Probe:
    """A prompt, the token read after it, and the model's own logits, float32 [STEPS, vocabulary]."""

    prompt: Prompt
    token: int
    own: Tensor


def tolerance(dtype: torch.dtype, layers: int) -> float:
    """The deviation that rounding explains, as a share of the logits' spread (their standard deviation)."""
    return max(LEAST_TOLERANCE, ROUNDINGS * torch.finfo(dtype).eps * math.sqrt(layers))


def deviation(made: Tensor, own: Tensor) -> float:
    """The largest deviation of any step: root mean square over the vocabulary, as a share of the logits' spread.

    Both: [STEPS, vocabulary].
    """
    apart = (made.float() - own).pow(2).mean(dim=-1).sqrt()
    return float((apart / own.std(dim=-1).clamp(min=1e-12)).max())


def passes(probes: Sequence[Probe], logits: Logits, limit: float) -> str | None:
    """None if the logits are the model's own up to rounding, else by how much they differ or why there are none.

    Raises MachineFault for a GPU in a bad state. Missing memory passes: answers are tried again with fewer rows.
    """
    try:
        made = logits([probe.prompt for probe in probes], [probe.token for probe in probes])
    except (RuntimeError, ValueError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        lacking = machine_fault(error)
        if lacking is not None:
            raise lacking from error
        return f"{type(error).__name__}: {error}"
    apart = max(deviation(made[:, row], probe.own) for row, probe in enumerate(probes))
    if apart <= limit:
        return None
    return f"by {apart:.2g} of the logits' spread, where rounding explains {limit:.2g}"


def lean_passes(name: str, probes: Sequence[Probe], limit: float, lean: Logits) -> bool:
    """Whether the lean path may be used for prompts like these. Warns if it differs from the model's forward pass."""
    differs = passes(probes, lean, limit) if probes else None
    if differs is not None:
        log.warning(
            "%s: the fast path differs from transformers' own forward pass (%s); its answers come from transformers'"
            " layers instead, which takes longer",
            name,
            differs,
        )
    return differs is None


def refuse_loop(name: str, probes: Sequence[Probe], limit: float, loop: Logits) -> None:
    """Raise CheckpointError if the loop over transformers' layers differs from the model's own forward pass."""
    differs = passes(probes, loop, limit) if probes else None
    if differs is not None:
        raise CheckpointError(
            f"{name}: its answers here would differ from those of transformers' own forward pass ({differs}), so evovlm"
            " does not support this kind of model; choose another, or use --no-self-check to take such answers"
        )


@torch.inference_mode()
def probes_of(model: Any, processor: Any, ends: frozenset[int], *, sees: bool) -> list[Probe]:
    """The prompts of the check: one without a picture and, for a VLM, one with. Empty if the model's logits are broken.

    `ends`: end tokens, which are not read.
    """
    tokenizer = processor.tokenizer if sees else processor
    ids = tokenize(tokenizer, TEXT)
    ids = ids.repeat(-(-LEAST_TOKENS // max(1, len(ids)))) if len(ids) else torch.arange(LEAST_TOKENS)
    asked = [({"input_ids": ids[None].to(model.device)}, Prompt(ids.to(model.device), None, "text"))]
    if sees:
        seen = _with_picture(model, processor)
        asked += [] if seen is None else [seen]
    image = model.config.image_token_id if sees else None
    probes = []
    for inputs, prompt in asked:
        token = next((one for one in reversed(prompt.ids.tolist()) if one not in ends and one != image), None)
        if token is not None:
            probes.append(Probe(prompt, token, _own_logits(model, inputs, token)))
    return [] if any(not bool(torch.isfinite(probe.own).all()) for probe in probes) else probes


def forced(tokens: Sequence[int], steps: list[Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A function that chooses the given tokens, one per prompt, and appends each step's logits to `steps`."""

    def choose(logits: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        ordered = torch.empty_like(logits, device="cpu")
        ordered[prompts.cpu()] = logits.cpu()
        steps.append(ordered)
        taken = torch.tensor([tokens[prompt] for prompt in prompts.tolist()], device=logits.device)
        return logits.amax(dim=-1), taken

    return choose


def _own_logits(model: Any, inputs: dict[str, Tensor], token: int) -> Tensor:
    """Logits [STEPS, vocabulary] after the prompt and after one more token, from one pass without a cache."""
    ids = inputs["input_ids"]
    answer_type = family_of({"model_type": model.config.model_type}).answer_type
    longer = dict(inputs)
    for name, value in inputs.items():
        if value.shape == ids.shape:  # the tokens, their mask and their types
            more = {"input_ids": token, "attention_mask": 1, "token_type_ids": answer_type}.get(name, 0)
            longer[name] = torch.cat([value, value.new_full((1, 1), more)], dim=1)
    logits: Tensor = model(**longer, use_cache=False, logits_to_keep=STEPS).logits
    return logits[0, -STEPS:].float().cpu()


def _with_picture(model: Any, processor: Any) -> tuple[dict[str, Tensor], Prompt] | None:
    """The inputs of the model's own forward pass, and the same as the engine prepares it; None if it takes no picture.

    Processors differ in what marks the place of a picture in a text.
    """
    picture = _picture(model.config.vision_config)
    for mark in dict.fromkeys([picture_mark(model, processor), "<image>"]):
        try:
            inputs = processor(text=f"{mark}\n{TEXT}", images=picture, return_tensors="pt").to(model.device)
        except (ValueError, IndexError, StopIteration, KeyError, TypeError):
            continue
        inputs.pop("labels", None)  # of processors that prepare training too
        ids = inputs["input_ids"][0]
        places = int((ids == model.config.image_token_id).sum())
        if places:
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            seen = look(model, inputs)
            prompt = seeing_prompt(model, inputs, seen, "picture")
            return (dict(inputs), prompt) if len(seen.features) == places else None
    return None


def _picture(vision_config: Any) -> Image.Image:
    """A picture of the size that the vision tower reads, broader than high."""
    size = getattr(vision_config, "image_size", None) or 224
    side = int(size[0] if isinstance(size, (list, tuple)) else size)
    return Image.linear_gradient("L").resize((side, max(1, side * 3 // 4))).convert("RGB")
