"""A few layers of a resident model in float32, in which an error of structure cannot hide behind rounding.

Knows transformers' modules and the lean path's tower; compares nothing. The vision tower is shared and keeps its dtype:
its features are the same on both sides of a comparison.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from evovlm.engines._tower_view import Layer, Tower
from evovlm.merging.live.lazy import Pending

PER_KIND = 2  # what a layer does wrong for earlier tokens shows in the last one's logits only after a second layer
CHEAP_BYTES = 2**26  # further layers are taken up to this size in float32
MOST_ROWS = 4096  # of the output head
SHORT_WINDOW = 16


@dataclass(frozen=True)
class CutModel:
    """`model` and its `decoder` with the chosen `layers` alone, in float32.

    rows: the embedding table's only rows that are filled, int64. step: the head has every `step`-th row.
    """

    model: Any
    decoder: Any
    layers: tuple[int, ...]
    rows: Tensor
    step: int

    def tower(self, whole: Tower, narrower: int) -> Tower:
        """The same layers of the lean path's own tower. `narrower`: by how many tokens this model's window is."""
        return replace(
            whole,
            layers=tuple(_layer(whole.layers[index]) for index in self.layers),
            embed=_table(whole.embed, self.rows),
            norm=whole.norm.float(),
            head=whole.head[:: self.step].float(),
            window=None if whole.window is None else whole.window - narrower,
            pending=Pending(),
        )

    def short_sighted(self, width: int) -> CutModel:
        """The same with a window of `width` tokens."""
        config = copy.deepcopy(self.model.config)
        config.get_text_config().sliding_window = width
        model, decoder = _with_decoder(self.model, self.decoder, config)
        layers = []
        for shared in decoder.layers:
            layer = _copied(shared)
            if getattr(shared.self_attn, "sliding_window", None) is not None:
                attention = layer._modules["self_attn"] = _copied(shared.self_attn)
                attention.sliding_window = width
            layers.append(layer)
        decoder._modules["layers"] = nn.ModuleList(layers)
        return replace(self, model=model, decoder=decoder)


def cut_model(model: Any, decoder: Any, layers: Sequence[int], ids: Tensor) -> CutModel:
    """The chosen layers of a model in float32. `ids`: the only tokens, int64 [any], that it will be asked about."""
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    text.num_hidden_layers = len(layers)
    if getattr(text, "layer_types", None):
        text.layer_types = [text.layer_types[index] for index in layers]
    cut, short = _with_decoder(model, decoder, config)
    for name, module in decoder._modules.items():
        if name not in ("layers", "embed_tokens") and module is not None:
            short._modules[name] = _in_float32(module)
    rows = torch.unique(ids)
    short._modules["embed_tokens"] = _embedding(decoder.embed_tokens, rows)
    short._modules["layers"] = nn.ModuleList(
        _at(_in_float32(decoder.layers[index]), number) for number, index in enumerate(layers)
    )
    head = _copied(model.lm_head)
    step = -(-len(model.lm_head.weight) // MOST_ROWS)
    for name, parameter in model.lm_head._parameters.items():
        if parameter is not None:
            head._parameters[name] = _parameter(parameter.detach()[::step].float())
    cut._modules["lm_head"] = head
    return CutModel(cut, short, tuple(layers), rows, step)


def chosen_layers(layers: Sequence[nn.Module]) -> list[int]:
    """The first layers of each kind, and further ones while that is cheap."""
    found: dict[Any, int] = {}
    taken: list[int] = []
    rest: list[int] = []
    for index, layer in enumerate(layers):
        kind = _kind(layer)
        found[kind] = found.get(kind, 0) + 1
        (taken if found[kind] <= PER_KIND else rest).append(index)
    nbytes = sum(float32_bytes(layers[index]) for index in taken)
    for index in rest:
        nbytes += float32_bytes(layers[index])
        if nbytes > CHEAP_BYTES:
            break
        taken.append(index)
    return sorted(taken)


def float32_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters in float32."""
    return 4 * sum(parameter.numel() for parameter in module.parameters())


def _kind(layer: nn.Module) -> Any:
    """What tells layers apart: their modules, and these modules' settings besides their number."""
    return tuple((name, type(module).__name__, *_settings(module)) for name, module in layer.named_modules())


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    return sorted(
        (key, value)
        for key, value in vars(module).items()
        if key != "layer_idx" and isinstance(value, int | float | str)
    )


def _with_decoder(model: Any, decoder: Any, config: Any) -> tuple[Any, Any]:
    """Copies of a model and its decoder that share all modules, with another configuration."""
    short = _copied(decoder)
    short.config = config.get_text_config()
    if hasattr(short, "has_sliding_layers"):
        short.has_sliding_layers = "sliding_attention" in short.config.layer_types
    cut = _copied(model)
    cut.config = config
    if model.model is decoder:
        cut._modules["model"] = short
    else:
        inner = cut._modules["model"] = _copied(model.model)
        inner.config = config
        place = next(name for name, module in model.model._modules.items() if module is decoder)
        inner._modules[place] = short
    return cut, short


def _copied(module: Any) -> Any:
    """A shallow copy with tables of its own, so that changing them leaves the original as it is."""
    shell = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        setattr(shell, name, dict(getattr(module, name)))
    return shell


def _in_float32(module: Any) -> Any:
    shell = _copied(module)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            shell._parameters[name] = _parameter(parameter.detach().float())
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.is_floating_point():
            shell._buffers[name] = buffer.float()
    for name, inner in module._modules.items():
        if inner is not None:
            shell._modules[name] = _in_float32(inner)
    return shell


def _at(layer: Any, index: int) -> Any:
    """The layer with its place in the KV cache."""
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = index
    return layer


def _embedding(module: Any, rows: Tensor) -> Any:
    shell = _copied(module)
    shell._parameters["weight"] = _parameter(_table(module.weight.detach(), rows))
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.is_floating_point():
            shell._buffers[name] = buffer.float()
    return shell


def _table(weight: Tensor, rows: Tensor) -> Tensor:
    """An embedding table in float32 with these rows alone: to fill a whole one would touch gigabytes."""
    if weight.dtype == torch.float32:
        return weight
    wide = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
    wide[rows] = weight[rows].float()
    return wide


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _layer(layer: Layer) -> Layer:
    values: dict[str, Any] = {part.name: getattr(layer, part.name) for part in fields(layer)}
    wide: dict[str, Any] = {name: None if value is None else value.float() for name, value in values.items()}
    return Layer(**wide)
