"""What preparing task vectors will take: time, by small random matrices on the same device, and disk, by what is free.

Knows methods and the shapes of an assembly's tensors; reads no weights.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from evovlm.evolution._controls import TSV_ROW, control_prepared, prepared_by, why_no_room
from evovlm.evolution.forecast import first_candidate
from evovlm.evolution.plan import Plan
from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.prepare import SmallDisk, making_members, missing_bytes, refuse_small_disk, vector_bytes
from evovlm.merging.vector_files import Ask, VectorFiles
from evovlm.methods import METHODS
from evovlm.recipe.schema import Recipe
from evovlm.study import log as study_log

ASPECTS = (0.25, 1.0, 4.0)  # rows per column of the matrices that are timed
# Elements of these: enough to take many times the start of a kernel, few enough to take a second together.
CPU_ELEMENTS, GPU_ELEMENTS = 1 << 14, 1 << 22
SPREAD, STEP = 0.02, 0.002  # standard deviations of weights, and of a source's change


def lacking_disk(plan: Plan, folder: Path) -> tuple[str, str]:
    """Why the disk is too small for a plan's study in a folder: for its search, and for its TSV-M control; else empty.

    The first is the sentence with which the search would stop, the second what the control's row would say.
    """

    def kept(recipe: Recipe) -> Assembly:
        return replace(with_recipe(plan.assembly, recipe), vectors=VectorFiles(folder / study_log.VECTORS))

    winner = first_candidate(plan)
    taken, refused, left_out = 0, "", ""
    if METHODS[winner.method].prepare is not None:
        own = kept(winner)
        taken = missing_bytes(own)
        try:
            refuse_small_disk(own, taken)
        except SmallDisk as lacking:
            refused = str(lacking)
    recipe = control_prepared(winner)
    if recipe is not None:
        control = kept(recipe)
        # With other options, the files of the search's own method have the names of the control's.
        needed = vector_bytes(control) if winner.method == "tsv_m" else missing_bytes(control)
        try:
            refuse_small_disk(control, needed, taken)
        except SmallDisk as lacking:
            left_out = why_no_room(lacking)
    return refused, left_out


def preparing_seconds(plan: Plan, no_room: str = "") -> float:
    """Seconds to prepare the task vectors of a plan's search and of its control, without writing; 0 if there are none.

    NaN if the plan is for a GPU and there is none here. no_room: why there is no disk for those of the TSV-M control;
    empty if there is. One matrix per aspect ratio is timed, and scaled with the power of 1.5 of its elements, as
    products and decompositions grow. Tensors that are only averaged take no time beside these.
    """
    prepared = prepared_by(first_candidate(plan), (TSV_ROW,) if no_room else ())
    if not prepared:
        return 0.0
    device = torch.device(plan.settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        return math.nan  # a forecast for another machine
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
    ask = Ask("of random numbers", assembly.recipe.method, assembly.options, base, tuple(sources))
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        ask.made(device)[0].sum().item()  # waits for the device
        seconds = time.perf_counter() - began
    return seconds
