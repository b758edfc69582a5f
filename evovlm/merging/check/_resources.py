"""Disk space and memory that a merge needs, against what is available.

Knows sizes; allocates nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path

import psutil
import torch

from evovlm.merging.check._finding import Finding
from evovlm.models.open_model import OpenModel
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.units import size

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def check_memory(owner: OpenModel, sources: int) -> list[Finding]:
    """Compare a merge's peak anonymous memory (its largest tensor in float32, times sources + 3) with what is free."""
    checkpoint = owner.checkpoint
    largest = max((prod(checkpoint.shape(key)) for key in owner.tower.values()), default=0)
    needed = largest * 4 * (sources + 3)
    available = psutil.virtual_memory().available
    text = f"the merge needs at most {size(needed)}; {size(available)} are available"
    return [Finding("warning" if needed > available else "note", "memory", text)]


def check_disk(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel], out: Path) -> list[Finding]:
    """Compare the checkpoint's size with the free space on the disk of `out`."""
    needed = output_bytes(recipe, owner, sources)
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"the checkpoint needs {size(needed)}; {size(free)} are free at {folder}"
    if free < needed:
        return [Finding("error", "disk", text + "; free some space or choose another disk")]
    return [Finding("note", "disk", text)]


def output_bytes(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> int:
    """Return the bytes of the output's weights in the recipe's dtype, with the layers of the route or slices if any."""
    wide = BYTES[recipe.dtype]
    checkpoint = owner.checkpoint
    keys = checkpoint.keys()
    layer_keys = {key for name, key in owner.tower.items() if layer_of(name) is not None}
    total = sum(
        prod(checkpoint.shape(key)) * _width(checkpoint.dtype(key), wide)
        for key in keys
        if not ((recipe.slices or recipe.route) and key in layer_keys)
    )
    for step in recipe.route:
        model = sources[step.source]
        total += sum(
            prod(model.checkpoint.shape(key)) * wide
            for name, key in model.tower.items()
            if layer_of(name) == step.layer
        )
    for part in recipe.slices:
        model = sources[part.source]
        total += sum(
            prod(model.checkpoint.shape(key)) * wide
            for name, key in model.tower.items()
            if (layer := layer_of(name)) is not None and part.layers[0] <= layer < part.layers[1]
        )
    return total


def _width(stored: torch.dtype, wide: int) -> int:
    return wide if stored.is_floating_point else stored.itemsize
