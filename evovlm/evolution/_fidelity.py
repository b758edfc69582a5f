"""What a search's lower fidelity is on a device: the choice that `auto` leaves, and settings that cannot be.

Knows recipes, families and devices; loads no models.
"""

from __future__ import annotations

import torch

from evovlm.evaluators.local import computing_dtype
from evovlm.merging.assembly import Assembly
from evovlm.models.families import has_tiles
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Fidelity
from evovlm.search import EMULATED, ONE_SCORE, ROUTED
from evovlm.search.space.parameters import search_of
from evovlm.system.device import has_float8
from evovlm.system.errors import RecipeError
from evovlm.tasks import Generation, Task
from evovlm.tasks.cheaper import Cheaper, idle_in_words

CHEAPLY = "search.fidelity: auto: cheap answers are by {way}, as long as they rank well"


def settled(recipe: Recipe, assembly: Assembly, task: Task, device: str) -> tuple[Recipe, str]:
    """The recipe with the fidelity that its search will use on a device, and a sentence on it, or "".

    Raises RecipeError if a lower fidelity would leave objectives without a value, or if its 8-bit products cannot be.
    """
    search = search_of(recipe)
    fidelity = search.fidelity
    if fidelity is None:
        return recipe, ""
    if search.objectives:
        raise RecipeError(f"search.fidelity: {ONE_SCORE}")
    if fidelity.auto and not fidelity.cheaper:
        fidelity, told = _chosen(fidelity, recipe, assembly, task, device)
        return recipe.model_copy(update={"search": search.model_copy(update={"fidelity": fidelity})}), told
    idle = idle_in_words(fidelity, task.generation, tiles=has_tiles(recipe.kind, assembly.owner.config))
    sentences = [f"search.fidelity: {idle}"] if idle else []
    if fidelity.eight_bit:
        why = _why_not_eight_bit(recipe, assembly, Cheaper(task, fidelity).generation, device)
        if why is not None:
            raise RecipeError(f"search.fidelity.eight_bit: {why}")
        sentences += [] if device.startswith("cuda") else [f"search.fidelity.eight_bit: {EMULATED}"]
    return recipe, "; ".join(sentences)


def _chosen(
    fidelity: Fidelity, recipe: Recipe, assembly: Assembly, task: Task, device: str
) -> tuple[Fidelity | None, str]:
    """What `auto` means here, None if nothing makes answers cheaper, and a sentence on it.

    One way, not both: at full size the base tile with 8-bit products ranked candidates worse than either alone, and is
    only 1.5 times as fast as the base tile (docs/performance-answering.md).
    """
    if has_tiles(recipe.kind, assembly.owner.config) and not task.generation.base_tile:
        return fidelity.model_copy(update={"base_tile": True}), CHEAPLY.format(way="the base tile alone")
    why = "a CPU only emulates 8-bit products"
    if device.startswith("cuda"):
        found = _why_not_eight_bit(recipe, assembly, task.generation, device) or ""
        why = found.partition(";")[0]
    if why:
        return None, f"search.fidelity: auto: all answers are in full, because no picture has tiles here, and {why}"
    return fidelity.model_copy(update={"eight_bit": True}), CHEAPLY.format(way="8-bit products")


def _why_not_eight_bit(recipe: Recipe, assembly: Assembly, generation: Generation, device: str) -> str | None:
    """Why cheap answers cannot be by 8-bit products, as far as that is known before a model is loaded; None if not."""
    gpu, dtype = device.startswith("cuda"), computing_dtype(assembly, device)
    reasons = {
        ROUTED: search_of(recipe).route is not None or bool(recipe.route),
        "beams are answered by transformers, which has no 8-bit products; set `beams: 1` beside it": (
            generation.num_beams > 1
        ),
        "transformers answers with repetition penalties, and has no 8-bit products; choose another preset": (
            generation.repetition_penalty != 1.0
        ),
        "this GPU does not multiply 8-bit floats, which needs compute capability 8.9; remove it": (
            gpu and not has_float8(device)
        ),
        f"8-bit products give bfloat16, and candidates are computed in {str(dtype).removeprefix('torch.')}; set"
        " `dtype: bfloat16`, or remove it": gpu and dtype != torch.bfloat16,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
