"""Experts of a mixture: transformers keeps them in two tensors for a layer, checkpoints have three for each expert.

Knows names and shapes; no configurations and no files.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

GATE_UP, DOWN = ".experts.gate_up_proj", ".experts.down_proj"


def by_expert(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """A module's parameters by the names that a checkpoint has them under; those of experts are views.

    What is written to a view is written to the module. `mlp.experts.gate_up_proj` [experts, 2 * inner, hidden] is
    `mlp.experts.N.gate_proj.weight` and `up_proj.weight`, each [inner, hidden], as Qwen's and others' files have them.
    """
    found: dict[str, nn.Parameter] = {}
    for name, parameter in parameters:
        if name.endswith(GATE_UP) and parameter.ndim == 3:
            gates, ups = parameter.data.chunk(2, dim=1)
            found |= _each(name.removesuffix("gate_up_proj"), "gate_proj", gates)
            found |= _each(name.removesuffix("gate_up_proj"), "up_proj", ups)
        elif name.endswith(DOWN) and parameter.ndim == 3:
            found |= _each(name.removesuffix("down_proj"), "down_proj", parameter.data)
        else:
            found[name] = parameter
    return found


def _each(begin: str, part: str, experts: Tensor) -> dict[str, nn.Parameter]:
    return {
        f"{begin}{number}.{part}.weight": nn.Parameter(expert, requires_grad=False)
        for number, expert in enumerate(experts.unbind())
    }
