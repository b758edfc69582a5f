"""The cost of using only the base tile in a search: how similarly candidates are ranked.

Knows the zoo's recipe and its VLM, tuned by `tiles` to see tiles; no clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from evovlm.engines.hf import Engine
from evovlm.evaluators.local import score_answers
from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import named_recipe
from evovlm.tasks import parse_split
from evovlm_benchmarks.speed.fidelity import CANDIDATES, ITEMS, ITEMS_ON_CPU, RECIPE, Row, become, equal_share, row_of
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.settings import Settings
from evovlm_benchmarks.speed.tiles import save_tiled, tiled_items
from evovlm_benchmarks.speed.watched import watched

ALL, BASE = "all tiles", "base tile alone"
STEPS = 600

Said = dict[str, tuple[float, list[str]]]


def tiles_rows(settings: Settings, _: Rates) -> Iterator[Row]:
    """Yield a row for all tiles and one for the base tile; `quick` barely tunes, which only shows that it runs."""
    cuda = settings.device.type == "cuda"
    candidates, items = (3, 8) if settings.quick else (CANDIDATES, ITEMS if cuda else ITEMS_ON_CPU)
    steps, batch = (2, 4) if settings.quick else (STEPS, 64 if cuda else 16)
    recipe = named_recipe(RECIPE)
    with TemporaryDirectory(prefix="evovlm-tiles-") as work:
        folder = Path(work) / "vlm"
        loss = save_tiled(_seeing(recipe), folder, steps=steps, batch=batch, device=settings.device)
        told = {"device": str(settings.device), "candidates": candidates, "items": items, "against": ALL}
        taught = {"steps": steps, "batch": batch, "loss": loss}
        said = list(_said(_with(recipe, folder), folder, settings.device, candidates, items))
    for way in (ALL, BASE):
        found = [one[way][0] for one in said]
        row = row_of(way, found, [one[ALL][0] for one in said])
        same = equal_share([one[way][1] for one in said], [one[ALL][1] for one in said])
        yield row | {"equal_answers": same, "scores": found} | told | taught


def _said(
    recipe: Recipe, folder: Path, device: torch.device, candidates: int, count: int, seed: int = 0
) -> Iterator[Said]:
    """Each candidate's score and answers, with all tiles and with the base tile."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    engine, host = Engine.load(folder, device=str(device), dtype=dtype), Engine.load(folder, dtype=torch.float32)
    merger = ResidentMerger(assemble(recipe, recipe.root), host.tower)
    task, _ = parse_split("zoo-vqa:validation")
    items = tiled_items("validation", count, seed)
    greedy = replace(task.generation, num_beams=1, repetition_penalty=1.0)
    looks = {way: engine.prepare(items, replace(greedy, base_tile=way == BASE), count) for way in (ALL, BASE)}
    rng = np.random.default_rng(seed)
    for _ in watched(range(candidates), "tiles: candidates", candidates):
        become(merger, host, (engine,), recipe, rng)
        answers = {way: engine.answer(prepared) for way, prepared in looks.items()}
        yield {way: (float(np.mean(score_answers(task, items, texts).scores)), texts) for way, texts in answers.items()}


def _seeing(recipe: Recipe) -> Path:
    """The folder of the zoo's VLM."""
    return open_model("vlm", next(one.model for one in recipe.sources if one.name == "vlm"), None, recipe.root).folder


def _with(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its VLM replaced by the one in another folder."""
    sources = tuple(
        one.model_copy(update={"model": str(folder)}) if one.name == "vlm" else one for one in recipe.sources
    )
    return recipe.model_copy(update={"sources": sources})
