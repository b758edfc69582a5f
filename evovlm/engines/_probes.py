"""The prompts of the self-check, and the logits that the model's own forward pass gives for them.

Knows transformers' models and processors; compares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from evovlm.engines.chat import added_tokens, in_chat
from evovlm.engines.prompts import Prompt, Seen, look, picture_mark, seeing_prompt, tokenize
from evovlm.models.families import family_of
from evovlm.system.errors import CheckpointError, DataError, MachineFault
from evovlm.system.faults import machine_fault

TEXT = "What is this? 12 + 30 = 42. 日本で一番高い山は何ですか。"
LEAST_TOKENS = 8
STEPS = 2  # logits are compared after the prompt and after one more token, which is read from the cache
WAY_OUT = "choose another model, or use --no-self-check to take its answers as they are"


@dataclass(frozen=True)
class Asked:
    """A prompt as the engine prepares it, the same as the model's own inputs, and the token that is read after it."""

    prompt: Prompt
    inputs: dict[str, Tensor]
    token: int
    seen: Seen | None = None


@dataclass(frozen=True)
class Probe:
    """A prompt, the token read after it, and the model's own logits, float32 [STEPS, vocabulary]."""

    prompt: Prompt
    token: int
    own: Tensor


@torch.inference_mode()
def first_prompts(name: str, model: Any, processor: Any, ends: frozenset[int], *, sees: bool) -> list[Asked]:
    """A prompt without a picture and, for a VLM, one with.

    `ends`: end tokens, which are not read after a prompt. Raises CheckpointError, naming the model as `name`, if a VLM
    cannot be asked with a picture.
    """
    ids = _text(processor, sees=sees).to(model.device)
    asked = [_asked({"input_ids": ids[None]}, None, "text", ends, model)]
    if sees:
        inputs, seen = _with_picture(name, model, processor, turned=False)
        asked.append(_asked(inputs, seen, "picture", ends, model))
    return [one for one in asked if one is not None]


@torch.inference_mode()
def further_prompts(
    name: str, model: Any, processor: Any, ends: frozenset[int], first: Sequence[Asked], *, sees: bool
) -> list[Asked]:
    """The first prompts, others that begin like them and are longer, and another picture: a batch with all of it.

    So there is padding, a shared beginning, and a shared picture. Raises as `first_prompts` does.
    """
    half = _text(processor, sees=sees).to(model.device)
    half = half[: max(1, len(half) // 2)]
    asked: list[Asked | None] = list(first)
    for one in first:
        asked.append(_asked(_longer(one.inputs, half), one.seen, f"{one.prompt.key}, longer", ends, model))
    if sees:
        inputs, seen = _with_picture(name, model, processor, turned=True)
        asked.append(_asked(inputs, seen, "other picture", ends, model))
    return [one for one in asked if one is not None]


@torch.inference_mode()
def probes_of(model: Any, asked: Sequence[Asked]) -> list[Probe]:
    """The prompts with the model's own logits. Empty if these are not finite: then nothing can be compared."""
    probes = [Probe(one.prompt, one.token, _own_logits(model, one)) for one in asked]
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


def _text(processor: Any, *, sees: bool) -> Tensor:
    ids = tokenize(processor.tokenizer if sees else processor, TEXT)
    return ids.repeat(-(-LEAST_TOKENS // max(1, len(ids)))) if len(ids) else torch.arange(LEAST_TOKENS)


def _asked(inputs: dict[str, Tensor], seen: Seen | None, key: str, ends: frozenset[int], model: Any) -> Asked | None:
    """None if every token of the prompt is an end token or a picture's."""
    prompt = Prompt(inputs["input_ids"][0], None, key) if seen is None else seeing_prompt(model, inputs, seen, key)
    image = None if seen is None else model.config.image_token_id
    token = next((one for one in reversed(prompt.ids.tolist()) if one not in ends and one != image), None)
    return None if token is None else Asked(prompt, inputs, token, seen)


def _longer(inputs: dict[str, Tensor], more: Tensor, kind: int = 0) -> dict[str, Tensor]:
    """The inputs with further tokens, int64 [count], at the end. kind: their token type, where models have types."""
    ids = inputs["input_ids"]
    longer = dict(inputs)
    for name, value in inputs.items():
        if value.shape == ids.shape:  # the tokens, their mask and their types
            fill = {"attention_mask": 1, "token_type_ids": kind}.get(name, 0)
            added = more if name == "input_ids" else torch.full_like(more, fill)
            longer[name] = torch.cat([value, added[None].to(value)], dim=1)
    return longer


def _own_logits(model: Any, asked: Asked) -> Tensor:
    """Logits [STEPS, vocabulary] after the prompt and after one more token, from one pass without a cache."""
    kind = family_of({"model_type": model.config.model_type}).answer_type
    inputs = _longer(asked.inputs, asked.prompt.ids.new_tensor([asked.token]), kind)
    logits: Tensor = model(**inputs, use_cache=False, logits_to_keep=STEPS).logits
    return logits[0, -STEPS:].float().cpu()


def _with_picture(name: str, model: Any, processor: Any, *, turned: bool) -> tuple[dict[str, Tensor], Seen]:
    """The inputs of the model's own forward pass, and what the engine makes of the picture.

    Processors differ in what marks the place of a picture in a text. `turned`: another picture. Raises CheckpointError
    if no mark is taken, or the features do not fit their places.
    """
    size = getattr(model.config.vision_config, "image_size", None) or 224
    side = int(size[0] if isinstance(size, list | tuple) else size)
    picture = Image.linear_gradient("L").resize((side, max(1, side * 3 // 4))).convert("RGB")
    picture = picture.transpose(Image.Transpose.ROTATE_180) if turned else picture
    refused = []
    for text, more in _marked_texts(model, processor):
        try:
            inputs = processor(text=text, images=picture, return_tensors="pt", **more).to(model.device)
            places = int((inputs["input_ids"][0] == model.config.image_token_id).sum())
            if not places:
                refused.append(f"{text.splitlines()[0]!r} makes no image tokens")
                continue
            inputs.pop("labels", None)  # of processors that prepare training too
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            seen = look(model, inputs)
        except Exception as error:  # whatever a processor or a vision tower of an unknown kind may raise
            lacking = error if isinstance(error, MachineFault) else machine_fault(error)
            if lacking is not None:
                raise lacking from error
            refused.append(f"{text.splitlines()[0]!r}: {type(error).__name__}: {error}")
            continue
        if len(seen.features) != places:
            refused.append(f"the prompt has {places} image tokens, the picture {len(seen.features)} features")
            continue
        return dict(inputs), seen
    raise CheckpointError(f"{name}: it cannot be asked with a picture ({refused[0]}); {WAY_OUT}")


def _marked_texts(model: Any, processor: Any) -> list[tuple[str, dict[str, Any]]]:
    """Texts that ask about a picture, with the processor's further arguments; the likeliest first."""
    named = (getattr(processor, name, None) for name in ("boi_token", "image_token"))
    known = [picture_mark(model, processor), *(mark for mark in named if isinstance(mark, str) and mark)]
    marks = dict.fromkeys([*known, "<image>"])
    texts: list[tuple[str, dict[str, Any]]] = [(f"{mark}\n{TEXT}", {}) for mark in marks]
    # There may be no chat template, or one that does not take a picture.
    with suppress(DataError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError):
        rendered = in_chat(processor, [TEXT], sees=True)[0]
        texts.append((rendered, added_tokens(processor, rendered)))
    return texts
