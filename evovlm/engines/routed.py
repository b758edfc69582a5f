"""The routed engine: one resident model that runs its layers in the order given by a route.

Knows transformers' decoder layers and routes; no recipes, searches or scores. No weights are copied: a step is a thin
wrapper around a shared layer, with its own slot in the KV cache.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evovlm.engines._prefix import PrefixMemory
from evovlm.engines._soundness import known_kind
from evovlm.engines.hf import Engine
from evovlm.recipe.route import Step, identity
from evovlm.system.errors import UnfitValues

Pool = Mapping[tuple[str, int], nn.Module]  # the layers of all sources, by source and index


class RoutedStep(nn.Module):
    """One pass through a shared layer: scale the stream, then apply the layer with slot `index` of the KV cache."""

    def __init__(self, layer: nn.Module, step: Step, index: int, memory: PrefixMemory | None) -> None:
        super().__init__()
        shell = copy.copy(layer)
        # The copies are shallow, so parameters stay shared. Each copy needs its own table of submodules; otherwise
        # the original's would be changed.
        shell._modules = dict(layer._modules)
        attention: Any = copy.copy(layer.self_attn)
        attention.layer_idx = index
        shell._modules["self_attn"] = attention
        self.layer = shell
        self.step = step
        self.index = index
        self.kind = _kind_of(attention)
        self._memory = memory

    def forward(self, hidden: Tensor, **context: Any) -> Tensor:
        """Return the stream [batch, length, hidden] after this step. Raises ValueError if the cache has no slot."""
        cache = context.get("past_key_values")
        if cache is not None and not _has_slot(cache, self.index):
            raise ValueError(f"step {self.index}: the cache has {len(cache.layers)} slots; give it one slot per step")
        if self._memory is None or cache is None or cache.get_seq_length(self.index) > 0:
            return self._compute(hidden, context)
        known = self._memory.recall(self.index, hidden, cache)
        if known is None:
            known = self._compute(hidden, context)
            self._memory.keep(self.index, known, cache)
        return known

    def _compute(self, hidden: Tensor, context: dict[str, Any]) -> Tensor:
        out: Tensor = self.layer(hidden if self.step.scale == 1.0 else hidden * self.step.scale, **context)
        return out


def lay_route(text: Any, pool: Pool, route: Sequence[Step], memory: PrefixMemory | None = None) -> None:
    """Make a language tower's decoder run its layers in the order of the route, and update its configuration.

    `text`: the decoder, which keeps its own embeddings, norm and rotary table. `memory`: reuses common first steps.
    Raises UnfitValues if the route is empty, and ValueError, naming the step, if the pool lacks a layer.
    """
    if not route:
        raise UnfitValues("the route is empty: step 0 is missing")
    for index, step in enumerate(route):
        if (step.source, step.layer) not in pool:
            raise ValueError(f"step {index}: no layer {step.layer} of {step.source!r} in the pool")
    text.layers = nn.ModuleList(
        RoutedStep(pool[step.source, step.layer], step, index, memory) for index, step in enumerate(route)
    )
    text.config.num_hidden_layers = len(route)
    if getattr(text.config, "layer_types", None):
        # Attention masks and cache slots depend on the attention kind of each step's layer; some towers mix kinds.
        text.config.layer_types = [step.kind for step in text.layers]
        if hasattr(text, "has_sliding_layers"):
            text.has_sliding_layers = "sliding_attention" in text.config.layer_types


class RoutedEngine:
    """A resident engine whose model runs the layers of several models in the order of a route.

    engine: generates the answers; its model keeps its own embeddings, norm and head. Changing the route takes no time.
    remember: bytes for hidden states of the last route, reused for the first steps that the next route shares with it.
    """

    def __init__(self, host: Engine, pool: Pool, *, remember: int = 0) -> None:
        self.pool = pool
        self.memory = PrefixMemory(remember) if remember else None
        around = nullcontext if self.memory is None else self.memory.batch
        self.engine = Engine(host.model, host.processor, sees=host.sees, lean=False, around=around)

    @classmethod
    def load_pool(
        cls,
        owner: str,
        folders: Mapping[str, Path],
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        *,
        remember: bool = True,
        self_check: bool = True,
    ) -> RoutedEngine:
        """Load the owner's whole model, and the layers of the other sources.

        `owner`: its source name. `folders`: checkpoint folders by source name. `remember`: reuse the first steps that a
        route shares with the previous one, using up to a quarter of the free memory. `self_check`: see `Engine.check`;
        the route of the owner's own layers is compared. Raises what `Engine.load` raises.
        """
        host = Engine.load(folders[owner], device=device, dtype=dtype, self_check=False)
        pool: dict[tuple[str, int], nn.Module] = {}
        for name, folder in folders.items():
            source = host if name == owner else Engine.load(folder, device=device, dtype=dtype, self_check=False)
            pool |= {(name, index): layer for index, layer in enumerate(source.decoder.layers)}
        room = _room(device) if remember else 0
        routed = cls(host, pool, remember=room)
        if self_check:
            with known_kind(folders[owner], host.model):
                routed.engine.check(str(folders[owner]), ready=lambda decoder: routed._follow_own(owner, decoder))
        return routed

    def _follow_own(self, owner: str, decoder: Any) -> None:
        """Make the model, or a cut copy of it, run its own layers in order as a route."""
        route = identity(owner, len(decoder.layers))
        if decoder is self.engine.decoder:
            self.follow(route)
        else:
            lay_route(decoder, {(owner, index): layer for index, layer in enumerate(decoder.layers)}, route)

    def follow(self, route: Sequence[Step]) -> None:
        """Make the model run its layers in the order of the route. Raises ValueError as `lay_route` does."""
        if self.memory is not None:
            self.memory.turn_to(route)
        lay_route(self.engine.decoder, self.pool, route, self.memory)


def _kind_of(attention: Any) -> str:
    """Full or sliding attention: most classes say which, those of Cohere 2 have a window or none."""
    windowed = getattr(attention, "sliding_window", None) is not None
    said: str | None = getattr(attention, "layer_type", None)
    return said or ("sliding_attention" if windowed else "full_attention")


def _has_slot(cache: Any, index: int) -> bool:
    # Caches made from a configuration have fixed slots; a lazy cache grows as needed.
    return cache.layer_class_to_replicate is not None or index < len(cache.layers)


def _room(device: str) -> int:
    """A quarter of the free memory, in bytes."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 4
    import psutil

    return int(psutil.virtual_memory().available) // 4
