"""The self-check of an engine: its logits beside those of the model's own forward pass, with and without a picture.

Knows engines' two paths and transformers' forward pass as functions; no recipes, scores or searches. What the engine
does for speed (joined weights, its own attention and cache, image features computed once) must not change an answer,
for any family that transformers can load, so it is verified on the model at hand:

1. The whole model, in its own dtype: one prompt without a picture and one with. In 16 bits, rounding alone moves the
   logits by up to a fifth of their spread, so this finds what is broken in that dtype or in one layer, and no more.
2. The first layers of each kind in float32 and plain torch, where rounding moves logits by a millionth, so that an
   error of structure shows that is as small as 1e-4 of the spread: a norm's offset, a mask, a rotary table, a missing
   scale. These prompts are asked in one batch, of unequal lengths, with a shared beginning, a shared picture and
   another one.
3. The same with a window of a few tokens, if the model has one, on prompts that just fit into it and longer ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from torch import Tensor

from evovlm.engines._cut_model import SHORT_WINDOW, CutModel, chosen_layers, cut_model, float32_bytes
from evovlm.engines._lean import Lean
from evovlm.engines._memory import free_bytes
from evovlm.engines._probes import STEPS, WAY_OUT, Asked, Probe, first_prompts, further_prompts, probes_of
from evovlm.engines.prompts import Prompt
from evovlm.models.families import family_of
from evovlm.system.errors import CheckpointError, MachineFault
from evovlm.system.faults import is_out_of_memory, machine_fault

log = logging.getLogger(__name__)

# Rounding adds up like a random walk over the layers, with a few rounded operations per layer. Measured with the zoo's
# models and with 7B random weights (CPU and H200, float32, bfloat16, float16): at most 0.4 of the tolerance.
ROUNDINGS = 4.0
LEAST_TOLERANCE = 1e-4  # GPUs may multiply float32 matrices with fewer bits, and no wrong operation is that small
MOST_OF_FREE = 0.25  # the share of the free memory that the layers in float32 may take

# (prompts, the token that each reads after its prompt) -> logits [STEPS, prompts, vocabulary].
Logits = Callable[[Sequence[Prompt], Sequence[int]], Tensor]


@dataclass(frozen=True)
class Trial:
    """Prompts with the model's own logits, and the engine's two ways to make the same. lean: None if it has none."""

    probes: Sequence[Probe]
    limit: float
    lean: Lean | None
    loop: Logits

    def lean_differs(self) -> str | None:
        """How the lean path differs on the prompts that it takes, None if it does not."""
        lean = self.lean
        served = [] if lean is None else [probe for probe in self.probes if lean.takes(probe.prompt, STEPS)]
        return differs(served, lean.logits, self.limit) if served and lean is not None else None

    def loop_differs(self, *, besides_lean: bool) -> str | None:
        """How the loop differs, None if it does not. besides_lean: only on the prompts that the lean path leaves."""
        lean = self.lean if besides_lean else None
        served = [probe for probe in self.probes if lean is None or not lean.takes(probe.prompt, STEPS)]
        return differs(served, self.loop, self.limit) if served else None


def check_engine(engine: Any, name: str, ready: Callable[[Any], None] | None = None) -> bool:
    """Compare an engine's logits with those of its model's own forward pass; whether the lean path may be used.

    `ready` is called with each decoder after its own forward pass, to change it in a way that must not change its
    logits. Warns if the lean path differs by more than rounding. Raises CheckpointError, naming the model as `name`, if
    the loop over transformers' layers differs as well, or if a VLM cannot be asked with a picture.
    """
    trials = list(_trials(engine, name, ready))
    fault = next((fault for trial in trials if (fault := trial.lean_differs()) is not None), None)
    if fault is not None:
        log.warning(
            "%s: the fast path differs from transformers' own forward pass (%s); its answers come from transformers'"
            " layers instead, which takes longer",
            name,
            fault,
        )
    for number, trial in enumerate(trials):
        # The whole model takes longest, and what the lean path answers there was compared.
        wrong = trial.loop_differs(besides_lean=number == 0 and fault is None)
        if wrong is not None:
            raise CheckpointError(
                f"{name}: its answers here would differ from those of transformers' own forward pass ({wrong}),"
                f" {_reason(engine.model)}; {WAY_OUT}"
            )
    return fault is None


def _reason(model: Any) -> str:
    """Why a model's own forward pass may differ: the version of transformers, or else the kind of model."""
    family, here = family_of({"model_type": model.config.model_type}), transformers.__version__
    if family.since and _release(here) < _release(family.since):
        return f"because {family.name} needs transformers {family.since} or newer, and this is {here}"
    return "so evovlm does not support this kind of model"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _trials(engine: Any, name: str, ready: Callable[[Any], None] | None) -> Iterator[Trial]:
    """The whole model first; then the cut ones, if its own logits are numbers and memory allows."""
    model, processor, ends = engine.model, engine.processor, engine.ends
    first = first_prompts(name, model, processor, ends, sees=engine.sees)
    whole = probes_of(model, first)
    if not whole:
        return
    cuts: list[tuple[CutModel, int, list[Probe]]] = []
    try:
        cuts += _cuts(engine, name, first)
    except (CheckpointError, MachineFault):
        raise
    except Exception as error:  # a family whose layers cannot be taken out of their model
        lacking = None if is_out_of_memory(error) else machine_fault(error)
        if lacking is not None:
            raise lacking from error
        log.warning(
            "%s: its layers could not be compared in float32 (%s: %s), only in %s, where a small error is not seen",
            *(name, type(error).__name__, error, str(engine.dtype).removeprefix("torch.")),
        )
    if ready is not None:
        ready(engine.decoder)
    yield Trial(whole, tolerance(engine.dtype, len(engine.decoder.layers)), engine.lean, engine.loop_logits)
    for cut, narrower, probes in cuts:
        if ready is not None:
            ready(cut.decoder)
        lean = None if engine.lean is None else engine.lean.on(cut.tower(engine.lean.tower, narrower))
        loop = engine.over(cut.model, cut.decoder).loop_logits
        yield Trial(probes, tolerance(torch.float32, len(cut.layers)), lean, loop)


def _cuts(engine: Any, name: str, first: Sequence[Asked]) -> Iterator[tuple[CutModel, int, list[Probe]]]:
    """The cut models, by how many tokens their windows are narrower than the model's, and their probes."""
    layers = chosen_layers(engine.decoder.layers)
    needed = sum(float32_bytes(engine.decoder.layers[index]) for index in layers)
    if 2 * needed > MOST_OF_FREE * free_bytes(torch.device(engine.device)):
        raise MemoryError(f"{needed:.2g} bytes do not fit beside it")
    asked = further_prompts(name, engine.model, engine.processor, engine.ends, first, sees=engine.sees)
    cut = cut_model(engine.model, engine.decoder, layers, torch.cat([_read(one) for one in asked]))
    yield cut, 0, probes_of(cut.model, asked)
    window = getattr(engine.decoder.config, "sliding_window", None)
    if isinstance(window, int):
        width = min(window, SHORT_WINDOW)
        blind = [one for one in asked if one.prompt.features is None]
        short = cut.short_sighted(width)
        # The longest prompt that the window holds, which the lean path may take, and others that are longer.
        yield short, window - width, probes_of(short.model, [_shortened(blind[0], max(1, width - STEPS)), *blind])


def _read(asked: Asked) -> Tensor:
    return torch.cat([asked.prompt.ids, asked.prompt.ids.new_tensor([asked.token])])


def _shortened(asked: Asked, length: int) -> Asked:
    """Its first tokens: as many as `length`."""
    inputs = {name: value[:, :length] for name, value in asked.inputs.items()}
    return replace(asked, prompt=replace(asked.prompt, ids=asked.prompt.ids[:length]), inputs=inputs)


def tolerance(dtype: torch.dtype, layers: int) -> float:
    """The deviation that rounding explains, as a share of the logits' spread (their standard deviation)."""
    return max(LEAST_TOLERANCE, ROUNDINGS * torch.finfo(dtype).eps * math.sqrt(layers))


def deviation(made: Tensor, own: Tensor) -> float:
    """The largest deviation of any step: root mean square over the vocabulary, as a share of the logits' spread.

    Both: [STEPS, vocabulary].
    """
    apart = (made.float() - own).pow(2).mean(dim=-1).sqrt()
    return float((apart / own.std(dim=-1).clamp(min=1e-12)).max())


def differs(probes: Sequence[Probe], logits: Logits, limit: float) -> str | None:
    """None if the logits are the model's own up to rounding, else by how much they differ or why there are none.

    Raises MachineFault for a GPU in a bad state. Missing memory passes: answers are tried again with fewer rows.
    """
    try:
        made = logits([probe.prompt for probe in probes], [probe.token for probe in probes])
    except Exception as error:  # whatever layers of an unknown kind may raise
        if is_out_of_memory(error):
            return None
        lacking = error if isinstance(error, MachineFault) else machine_fault(error)
        if lacking is not None:
            raise lacking from error
        return f"{type(error).__name__}: {error}"
    apart = [deviation(made[:, row], probe.own) for row, probe in enumerate(probes)]
    worst = next((one for one in apart if not one <= limit), None)  # NaN is not
    if worst is None:
        return None
    return f"by {worst:.2g} of the logits' spread, where rounding explains {limit:.2g}"
