"""What a run of a suite will take: seconds and memory, measured on a few questions, or from past runs.

Knows engines and pairs; stores no answers and prints nothing.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import psutil
import torch

from evovlm.engines.batches import fitting_batch
from evovlm.engines.hf import Engine
from evovlm.evolution.forecast import LEAST_SPREAD, crowded_in_words, means_of, on_line, spread_of
from evovlm.evolution.past_runs import past_pace
from evovlm.models.open_model import OpenModel
from evovlm.system.device import check_device
from evovlm.system.machine import crowding
from evovlm.system.units import duration, duration_range
from evovlm_benchmarks.runner.answering import PairFault, answers_of_pair, as_asked, load_engine, named_faults
from evovlm_benchmarks.runner.pairs import Pair

FEW, MORE = 4, 16  # questions of a pair's first step and of the others
STEPS = 3  # of a pair; the last two ask as many, which shows how much the time varies
SECONDS = 3.0  # a pair takes no further step after these
FINISHING = 3.0  # seconds for intervals and tables


@dataclass
class Estimate:
    """Seconds of a run, and how many times longer or shorter it may be; bytes on host and GPU (0: not known).

    `whence`: where the numbers come from, a sentence. `failures`: why some pairs are not in them.
    """

    seconds: float = FINISHING
    spread: float = LEAST_SPREAD
    host: int = 0
    gpu: int = 0
    whence: str = ""
    failures: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """The range of the time in words."""
        return duration_range(self.seconds / self.spread, self.seconds * self.spread)


def measured(
    opened: Mapping[str, OpenModel],
    left: Sequence[tuple[Pair, int]],
    device: str,
    *,
    batch: int | None,
    self_check: bool,
) -> Estimate:
    """Load each model that has questions left and let it answer a few. `left`: pairs with their questions left."""
    began = time.perf_counter()
    chip = check_device(device)
    if chip.type == "cuda":
        torch.cuda.reset_peak_memory_stats(chip)
    found, asked, crowded = Estimate(), 0, crowding()
    found.seconds += time.time() - psutil.Process().create_time()
    for name in dict.fromkeys(pair.model.name for pair, _ in left):
        own = [(pair, count) for pair, count in left if pair.model.name == name]
        started = time.perf_counter()
        try:
            engine = load_engine(opened[name], device, self_check=self_check)
        except PairFault as error:
            found.failures.append(str(error))
            continue
        found.seconds += time.perf_counter() - started
        for pair, count in own:
            try:
                steps = _steps(engine, pair, device, batch)
            except PairFault as error:
                found.failures.append(str(error))
                continue
            asked += sum(questions for questions, _ in steps)
            found.seconds += on_line(means_of(steps), count)
            found.spread = max(found.spread, spread_of(steps, crowded))
        del engine
    found.host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found.gpu = torch.cuda.max_memory_reserved(chip) if chip.type == "cuda" else 0
    whole = duration(time.perf_counter() - began)
    found.whence = f"measured on this machine just now, in {whole}: {asked} questions asked{crowded_in_words(crowded)}"
    return found


def _steps(engine: Engine, pair: Pair, device: str, batch: int | None) -> list[tuple[int, float]]:
    """(questions, seconds) of some steps of a pair, with the preparation of their prompts."""
    items, generation = as_asked(engine, pair)
    size = batch or fitting_batch(engine, generation)
    steps: list[tuple[int, float]] = []
    began = time.perf_counter()
    while len(steps) < 2 or (len(steps) < STEPS and time.perf_counter() - began < SECONDS):
        place = (len(steps) * MORE) % max(1, len(items) - MORE + 1)  # other questions each time
        part = items[place : place + (MORE if steps else FEW)]
        started = time.perf_counter()
        with named_faults(pair, device):
            for _ in answers_of_pair(engine, pair, part, generation, size, set(), []):
                pass
        steps.append((len(part), time.perf_counter() - started))
    return steps


def from_past_runs(opened: Mapping[str, OpenModel], left: Sequence[tuple[Pair, int]], device: str) -> Estimate:
    """The estimate from past runs, scaled with each model's parameters."""
    found = Estimate()
    largest = 0.0
    for name in dict.fromkeys(pair.model.name for pair, _ in left):
        model = opened[name]
        billions = sum(prod(model.checkpoint.shape(key)) for key in model.tower.values()) / 1e9
        pace = past_pace(model.layout.kind, device, billions)
        counts = [count for pair, count in left if pair.model.name == name]
        found.seconds += pace.load + math.fsum(pace.answering(count) + count * pace.prepare for count in counts)
        found.spread = max(found.spread, pace.spread)
        held = 0 if pace.gpu else model.bytes_on(device)
        found.host, found.gpu = max(found.host, pace.host, held), max(found.gpu, pace.gpu)
        if billions > largest:
            largest, found.whence = billions, f"{pace.whence}; {name} is the largest model, and all are scaled"
    return found
