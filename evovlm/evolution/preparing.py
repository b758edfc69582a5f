"""How long preparing task vectors will take: from small random matrices, timed on the device that will prepare them.

Knows methods and the shapes of an assembly's tensors; reads no weights.
"""

from __future__ import annotations

import math
import time

import torch

from evovlm.evolution._controls import prepared_by
from evovlm.evolution.forecast import first_candidate
from evovlm.evolution.plan import Plan
from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.prepare import making_members
from evovlm.methods import METHODS
from evovlm.system.device import check_device

ASPECTS = (0.25, 1.0, 4.0)  # rows per column of the matrices that are timed
# Elements of these: enough to take many times the start of a kernel, few enough to take a second together.
CPU_ELEMENTS, GPU_ELEMENTS = 1 << 14, 1 << 22
SPREAD, STEP = 0.02, 0.002  # standard deviations of weights, and of a source's change


def preparing_seconds(plan: Plan) -> float:
    """Seconds to prepare the task vectors of a plan's search and of its control, without writing; 0 if there are none.

    One matrix per aspect ratio is timed, and scaled with the power of 1.5 of its elements, as products and
    decompositions grow. Tensors that are only averaged take no time beside these.
    """
    device = check_device(plan.settings.device)
    prepared = prepared_by(first_candidate(plan))
    return math.fsum(_seconds(with_recipe(plan.assembly, recipe), device) for recipe in prepared)


def _seconds(assembly: Assembly, device: torch.device) -> float:
    jobs = [job for job in assembly.jobs if len(job.shape) == 2 and not assembly.options_of(job).averaged]
    if not jobs:
        return 0.0
    nearest = [_nearest(job.shape[0] / job.shape[1]) for job in jobs]
    elements = CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS
    timed = {aspect: _timed(assembly, aspect, elements, device) for aspect in set(nearest)}
    total = math.fsum(
        timed[aspect] * (math.prod(job.shape) / elements) ** 1.5 for job, aspect in zip(jobs, nearest, strict=True)
    )
    return total / (making_members(jobs) if device.type == "cpu" else 1)


def _nearest(ratio: float) -> float:
    return min(ASPECTS, key=lambda aspect: abs(math.log(ratio / aspect)))


def _timed(assembly: Assembly, aspect: float, elements: int, device: torch.device) -> float:
    """Seconds for one random matrix of so many rows per column; the second of two runs, since the first one starts."""
    columns = round(math.sqrt(elements / aspect))
    shape = (round(columns * aspect), columns)
    generator = torch.Generator(device).manual_seed(0)
    base = torch.randn(shape, generator=generator, device=device) * SPREAD
    sources = [base + torch.randn(shape, generator=generator, device=device) * STEP for _ in assembly.sources]
    prepare = METHODS[assembly.recipe.method].prepare
    assert prepare is not None
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        prepare(base, sources, assembly.options.own)[0].sum().item()  # waits for the device
        seconds = time.perf_counter() - began
    return seconds
