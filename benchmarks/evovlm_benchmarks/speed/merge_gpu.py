"""Time to merge a candidate's weights on a device, against the bytes that have to move.

Knows random towers and mergers; not answering. Every ratio is to the copy rate measured in the same run.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from evovlm.merging.assembly import with_recipe
from evovlm.merging.live.choose import Merger
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.placement import Place, Placement
from evovlm.methods import METHODS as KNOWN
from evovlm.methods import merge_tensor
from evovlm.recipe.schema import Recipe
from evovlm_benchmarks.merge_speed import SCALES, Scale
from evovlm_benchmarks.speed.floors import Rates, seconds_of, wall_seconds
from evovlm_benchmarks.speed.torch_twin import torch_merge
from evovlm_benchmarks.speed.towers import BASE, RandomTower, live_parameters, random_tower, recipe_of

# Options other than the defaults that are merged in another way, by what a row calls them.
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "model_stock filter_wise": ("model_stock", {"filter_wise": True}),
    "della per_element": ("della", {"rescale": "per_element"}),
}
# In order of what they need: one pass, tables, masks, vectors (drawn here, not prepared), whole tensors. `passthrough`
# copies its source.
METHODS = (
    *("linear", "task_arithmetic", "dare_linear", "dare_ties", "ties", "magnitude", "breadcrumbs", "breadcrumbs_ties"),
    *("slerp", "model_stock", "della_linear", "della", "tsv_m", "iso_c", "iso_cts", "knots_ties", "wudi"),
    *("nuslerp", "multislerp", "karcher", "sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion", *VARIANTS),
)
METHOD_SOURCES = (1, 2, 3)  # 1: only methods that take no more
GROWTH_SOURCES = (2, 3, 4, 5, 6)
GROWTH_SIZES = ("1b", "7b", "13b")
SMALL = "1b"  # six sources of this size fit on every GPU
REPEATS = 10
SLOW = 0.5  # seconds: a merge that takes longer is timed once


def merge_rows(scale: str, device: torch.device, rates: Rates, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield a row for each of: dare_ties with two and three sources, 8 bits, growth, host memory.

    On a CPU only the first group; with `quick` no growth and no host memory.
    """
    for count in (2, 3):
        yield _row("sources", scale, count, "dare_ties", device, rates)
    if device.type != "cuda":
        return
    yield _row("8 bits", scale, 2, "dare_ties", device, rates, eight_bit=True)
    yield _plain(scale, device, rates)
    if quick:
        return
    wanted = [("sources", scale, count) for count in GROWTH_SOURCES[2:]]
    wanted += [("sources", SMALL, count) for count in GROWTH_SOURCES]
    wanted += [("size", size, 2) for size in GROWTH_SIZES if size not in (scale, SMALL)]
    for what, size, count in wanted:
        yield from _fitting(what, size, count, device, rates)
    yield _row("host", scale, 2, "dare_ties", device, rates, place="host", repeats=3)


def _fitting(what: str, size: str, sources: int, device: torch.device, rates: Rates) -> Iterator[dict[str, Any]]:
    """The row, or, if it does not fit on this GPU, a row that says so and (for sizes) one with half the layers."""
    try:
        yield _row(what, size, sources, "dare_ties", device, rates)
        return
    except torch.OutOfMemoryError:
        _free(device)
    yield {"what": "does not fit this GPU", "method": "dare_ties", "scale": size, "sources": sources}
    layers = SCALES[size].layers
    half = replace(SCALES[size], layers=layers // 2)
    if what == "size":
        told = {"scale": f"{size}, {half.layers} of {layers} layers"}
        yield _row(what, size, sources, "dare_ties", device, rates, tower_scale=half) | told


def method_rows(
    scale: str, device: torch.device, rates: Rates, methods: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method with two and three sources, or one: one merger serves all from the same tensors.

    methods: all of `METHODS` if empty. Prepared task vectors are random, so that no row has their set-up.

    `first_seconds`: the first merge by a method, which makes its tables. `bits_equal`: whether one tensor is the CPU's.
    """
    for count in METHOD_SOURCES:
        taken = [name for name in methods or METHODS if _takes(_variant(name)[0], count)]
        if not taken:
            continue
        _free(device)
        recipe = recipe_of(count, "dare_ties")
        tower = random_tower(SCALES[scale], recipe, device)
        live = live_parameters(tower, tower.dtype)
        merger = _merger(tower, live, "gpu", eight_bit=False)
        for name in taken:
            method, options = _variant(name)
            candidate = recipe_of(count, method).with_options(dict(options))
            started = time.perf_counter()
            merger.merge(candidate)
            first = time.perf_counter() - started
            merger.merge(candidate)
            again = time.perf_counter() - started - first
            repeats = REPEATS if device.type == "cuda" and again < SLOW else 1
            yield _timed(merger, candidate, device, rates, repeats) | {
                "what": "method",
                "method": name,
                "scale": scale,
                "first_seconds": first,
                "bits_equal": _bits_equal(tower, live, candidate),
            }
        del merger, live, tower


def _variant(name: str) -> tuple[str, Mapping[str, Any]]:
    """A row's method and the options that are not its defaults."""
    return VARIANTS.get(name, (name, {}))


def _takes(method: str, count: int) -> bool:
    row = KNOWN[method]
    return row.takes(count) and (count > 1 or row.most == 1)


def _bits_equal(tower: RandomTower, live: Mapping[str, torch.nn.Parameter], recipe: Recipe) -> bool:
    """Whether a small matrix of the live tower is the one that the CPU merges."""
    job = min((job for job in tower.jobs if len(job.shape) > 1), key=lambda job: math.prod(job.shape))
    candidate = with_recipe(tower, recipe)
    drawn = candidate.base_tensor(job) if candidate.reads_base else None
    base = None if drawn is None else drawn.cpu()
    operands = [
        candidate.operand(
            job, source, candidate.source_tensor(job, source, name, None).cpu(), candidate.draws(job, source)
        )
        for source, name in job.parts
    ]
    operands = candidate.with_vectors(job, base, operands)
    merged = merge_tensor(recipe.method, base, operands, candidate.options_of(job), dtype=candidate.dtype)
    return torch.equal(live[job.name].data.cpu(), merged)


def _row(
    what: str,
    scale: str,
    sources: int,
    method: str,
    device: torch.device,
    rates: Rates,
    *,
    place: Place = "gpu",
    eight_bit: bool = False,
    repeats: int = REPEATS,
    tower_scale: Scale | None = None,
) -> dict[str, Any]:
    """Set up one merger, time it and discard it."""
    _free(device)
    recipe = recipe_of(sources, method)
    tower = random_tower(tower_scale or SCALES[scale], recipe, device)
    live = live_parameters(tower, tower.dtype)
    started = time.perf_counter()
    merger = _merger(tower, live, place, eight_bit=eight_bit)
    _free(device, forget=False)
    ready = time.perf_counter()
    merger.merge(recipe)
    first = time.perf_counter()
    _reset_peak(device)
    row = _timed(merger, recipe, device, rates, repeats) | {
        "what": what,
        "scale": scale,
        "set_up_seconds": ready - started,
        "first_seconds": first - ready,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        "errors": getattr(merger, "errors", {}),
    }
    del merger, live, tower
    _free(device)
    return row | ({"place": place} if device.type == "cuda" else {})


def _timed(merger: Merger, recipe: Recipe, device: torch.device, rates: Rates, repeats: int) -> dict[str, Any]:
    device_seconds = seconds_of(lambda: merger.merge(recipe), device, repeats, warm=2 if repeats > 1 else 0)
    wall = wall_seconds(lambda: merger.merge(recipe), device, repeats)
    moved = merger.bytes_of(recipe)
    floor = moved / rates.copy
    median = statistics.median(wall)
    return {
        "method": recipe.method,
        "sources": len(recipe.sources),
        "device_seconds": statistics.median(device_seconds),
        "seconds": median,
        "spread": [min(wall), max(wall)],
        "bytes": moved,
        "floor_seconds": floor,
        "ratio": median / floor,
    }


def _plain(scale: str, device: torch.device, rates: Rates) -> dict[str, Any]:
    """The same merge in ordinary torch code, on the largest tensor, with masks from torch's own generator."""
    recipe = recipe_of(2, "dare_ties")
    tower = random_tower(SCALES[scale], recipe, device)
    job = max(tower.jobs[1:-1], key=lambda job: torch.Size(job.shape).numel())
    base = tower.base_tensor(job)
    sources = [tower.source_tensor(job, source, name, base) for source, name in job.parts]
    out = torch.empty_like(base)
    seconds = statistics.median(seconds_of(lambda: torch_merge(base, sources, (0.6, 0.55), (0.5, 0.5), out), device, 5))
    moved = 4 * base.numel() * base.element_size()
    return {
        "what": "plain torch, its largest tensor",
        "scale": scale,
        "method": "dare_ties",
        "sources": 2,
        "seconds": seconds,
        "bytes": moved,
        "floor_seconds": moved / rates.copy,
        "ratio": seconds * rates.copy / moved,
    }


def _merger(tower: RandomTower, live: Mapping[str, torch.nn.Parameter], place: Place, *, eight_bit: bool) -> Merger:
    """The fused merger on a GPU, the CPU merger otherwise."""
    if tower.device.type != "cuda":
        return ResidentMerger(tower, live)
    from evovlm.merging.live.gpu import DeviceMerger

    placement = Placement(dict.fromkeys((BASE, *tower.recipe.source_names), place), {})
    return DeviceMerger(tower, live, placement, eight_bit=eight_bit)


def _free(device: torch.device, *, forget: bool = True) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        if forget:
            gc.collect()  # a merger and its tower hold each other
            torch.cuda.empty_cache()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
