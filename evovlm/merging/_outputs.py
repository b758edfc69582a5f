"""What may be written to a checkpoint: copied tensors in their dtype, and finite values only.

Knows assemblies; no files that are written, and no processes or GPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly, tower_tensor
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.models.finite import is_finite
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError

CPU = torch.device("cpu")


def stored_dtype(stored: torch.dtype, wanted: torch.dtype) -> torch.dtype:
    """Floating-point tensors get the recipe's dtype; integer buffers keep theirs."""
    return wanted if stored.is_floating_point else stored


def copied_tensor(assembly: Assembly, key: str) -> Tensor:
    """Return a tensor of the owner outside the tower, as it is written. Raises CheckpointError if it is not finite."""
    stored = assembly.owner.checkpoint.tensor(key)
    tensor = stored.to(stored_dtype(stored.dtype, assembly.dtype))
    if not is_finite(tensor):
        raise CheckpointError(
            f"{key}: the owner's values are not finite in {assembly.recipe.dtype}, and would be copied;"
            " download the checkpoint again, or set `dtype: bfloat16` or `float32`"
        )
    return tensor


def refuse_non_finite(assembly: Assembly, tensor: Tensor, job: Job) -> None:
    """Raise CheckpointError, which names the model or the group at fault, if a merged tensor is not finite."""
    if is_finite(tensor):
        return
    given = [(assembly.sources[source], name) for source, name in job.parts]
    if assembly.base is not None and assembly.reads_base:
        given.append((assembly.base, job.name))
    for model, name in given:
        if not is_finite(tower_tensor(model, name)):
            raise CheckpointError(
                f"{job.key}: the values of {model.place} ({model.folder}) are NaN or infinite; download it again"
            )
    method, dtype = METHODS[assembly.recipe.method], assembly.recipe.dtype
    options = [f"`options.{name}`" for name in _numbers_given(assembly.recipe)]
    if method.prepare is not None and not all(is_finite(vector) for vector in assembly.vectors_of(job, CPU)):
        step = f"change {' or '.join(options)}" if options else "choose another method"
        raise CheckpointError(f"{job.key}: the task vectors that {method.name} makes are not finite; {step}")
    steps = [f"lower the weights of group {job.group!r}"] if method.weighted else []
    steps += [f"change {' or '.join(options)}"] if options else []
    steps += ["set `dtype: bfloat16` or `float32`"] if dtype == "float16" else []
    steps = steps or ["choose another method"]
    raise CheckpointError(f"{job.key}: the merged values are not finite in {dtype}; {', or '.join(steps)}")


def _numbers_given(recipe: Recipe) -> list[str]:
    """The options of a recipe that are numbers and not the method's defaults."""
    given = recipe.options.model_dump(by_alias=True, exclude_defaults=True)
    return [name for name, value in given.items() if isinstance(value, int | float) and not isinstance(value, bool)]
