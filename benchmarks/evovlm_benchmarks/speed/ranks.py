"""How cheaper answers rank candidates at full size: against the answers of a hidden merge of the same recipe.

Knows mergers and engines with random weights. The references are what the hidden merge answers, greedily and in full;
candidates have weights around its own, some nearer and some farther. A trained model's answers are steadier, because
its tokens are less often nearly tied, so these agreements are rather too low than too high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from evovlm.cli.console import ERR
from evovlm.engines.prompts import Prepared
from evovlm.recipe.schema import Recipe
from evovlm.tasks.metrics.rouge import longest_common
from evovlm_benchmarks.speed.candidate import Bench, Row, bench_for
from evovlm_benchmarks.speed.fidelity import equal_share, row_of
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.full_size import Eyes, base_tile_alone, prompts_of
from evovlm_benchmarks.speed.settings import Settings

CANDIDATES = 12
QUICK = 4
HIDDEN = (0.6, 0.5)  # weights of the hidden merge
NEAREST, FARTHEST = 0.02, 0.5  # distances of candidates from it
COARSE = 8  # a picture is that many random values high and wide, interpolated
FULL = "in full"


class Way(NamedTuple):
    """How candidates answer."""

    base_tile: bool
    eight_bit: bool


WAYS = {
    FULL: Way(False, False),
    "8-bit products": Way(False, True),
    "base tile alone": Way(True, False),
    "base tile alone, 8-bit products": Way(True, True),
}


class Answered(NamedTuple):
    """A candidate's answers, its score against the references, and the seconds from merge to answers."""

    said: list[str]
    score: float
    seconds: float


def ranks_rows(settings: Settings, rates: Rates) -> Iterator[Row]:
    """Yield a row per way of answering: seconds per candidate, and how its ranks agree with those of full answers."""
    bench = bench_for(settings, rates)
    bench.place("gpu")
    whole = prompts_of(bench.engine, smooth_pixels(bench.questions, bench.eyes, bench.device), 1)
    tile = base_tile_alone(whole, bench.engine, bench.eyes)
    count = settings.candidates or (QUICK if settings.quick else CANDIDATES)
    candidates = candidates_of(bench.recipe, count)
    reference, seconds = _asked(bench, with_weights(bench.recipe, HIDDEN), bench.prepared(whole))
    ERR.print(f"ranks: the hidden merge answered {len(reference)} questions in {seconds:.1f} s", style="dim")
    full: list[Answered] = []
    for name, way in WAYS.items():
        prepared = bench.prepared(tile if way.base_tile else whole, eight_bit=way.eight_bit)
        bench.free()
        found = list(_answered(bench, name, candidates, prepared, reference))
        full = full or found
        yield _row(name, found, full) | {
            "questions": len(whole),
            "scale": bench.scale,
            "device": str(bench.device),
            "halved": list(prepared.halved),
        }


def _answered(
    bench: Bench, name: str, candidates: Sequence[Recipe], prepared: Prepared, reference: Sequence[str]
) -> Iterator[Answered]:
    for number, recipe in enumerate(candidates, start=1):
        said, seconds = _asked(bench, recipe, prepared)
        score = float(np.mean([rouge_l(one, other) for one, other in zip(said, reference, strict=True)]))
        ERR.print(f"ranks: {name}: {number} of {len(candidates)}: {seconds:.1f} s, score {score:.1f}", style="dim")
        yield Answered(said, score, seconds)


def _asked(bench: Bench, recipe: Recipe, prepared: Prepared) -> tuple[list[str], float]:
    started = bench.now()
    bench.merger.merge(recipe)
    said = bench.engine.answer(prepared)
    return said, bench.now() - started


def _row(name: str, found: Sequence[Answered], full: Sequence[Answered]) -> dict[str, Any]:
    scores, reference = ([one.score for one in answered] for answered in (found, full))
    seconds = median(one.seconds for one in found)
    return row_of(name, scores, reference) | {
        "against": FULL,
        "seconds": seconds,
        "times_faster": median(one.seconds for one in full) / seconds,
        "best_promoted": int(np.argmax(reference)) in better_half(scores),
        "equal_answers": equal_share([one.said for one in found], [one.said for one in full]),
        "candidates": len(found),
        "scores": scores,
        "first_seconds": found[0].seconds,
    }


def better_half(scores: Sequence[float]) -> list[int]:
    """The places of the better half of the scores, the first of ties."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[: max(1, round(len(scores) / 2))]


def candidates_of(recipe: Recipe, count: int, seed: int = 0) -> list[Recipe]:
    """Candidates in random directions from the hidden merge, at distances that grow by a factor; in random order."""
    rng = np.random.default_rng(seed)
    distances = rng.permutation(np.geomspace(NEAREST, FARTHEST, count))
    directions = rng.standard_normal((count, len(HIDDEN)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return [with_weights(recipe, row) for row in np.array(HIDDEN) + distances[:, None] * directions]


def with_weights(recipe: Recipe, weights: Sequence[float]) -> Recipe:
    """The recipe with one weight per source."""
    parameters = {
        name: recipe.of(name).model_copy(update={"weight": float(weight)})
        for name, weight in zip(recipe.source_names, weights, strict=True)
    }
    return recipe.model_copy(update={"parameters": parameters})


def rouge_l(said: str, reference: str) -> float:
    """ROUGE-L's F-measure on words, 0 to 100; the words of random models need no MeCab."""
    words, wanted = said.split(), reference.split()
    return 200.0 * longest_common(words, wanted) / max(1, len(words) + len(wanted))


def smooth_pixels(images: int, eyes: Eyes, device: torch.device, seed: int = 0) -> dict[str, torch.Tensor]:
    """A processor's output for square pictures without edges, as `random_pixels`, but the tiles are parts of the whole.

    So the base tile shows what the others show, at half the resolution.
    """
    stream = torch.Generator(device).manual_seed(seed)
    coarse = torch.randn((images, 3, COARSE, COARSE), generator=stream, device=device)
    side = eyes.tile
    whole = interpolate(coarse, size=(2 * side, 2 * side), mode="bicubic", align_corners=False)
    parts = [whole[..., row : row + side, column : column + side] for row in (0, side) for column in (0, side)]
    pixels = torch.stack([interpolate(whole, size=(side, side), mode="area"), *parts], dim=1)
    sizes = torch.full((images, 2), 2 * side, device=device)
    return {"pixel_values": pixels.to(torch.bfloat16), "image_sizes": sizes}
