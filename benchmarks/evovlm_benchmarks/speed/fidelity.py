"""The cost of answering more cheaply in the search than in the final scoring: how similarly candidates are ranked.

Knows the zoo's recipe and engines; no clocks. Twenty candidates with random weights answer the same questions in
float32 and bfloat16, greedily and with five beams, with full-precision and with 8-bit products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared
from evovlm.evaluators.local import score_answers
from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import named_recipe
from evovlm.search.space.parameters import uniform
from evovlm.tasks import parse_split
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.settings import Settings
from evovlm_benchmarks.speed.watched import watched

CANDIDATES = 20
ITEMS = 150
ITEMS_ON_CPU = 50  # fewer, because 8-bit products are emulated there and beams are slow
BEAMS = 5
RECIPE = "zoo-vlm"

Row = dict[str, Any]


def fidelity_rows(settings: Settings, _: Rates) -> Iterator[Row]:
    """All rows, on the zoo's recipe; `quick` uses few candidates and items, which only shows that it runs."""
    cuda = settings.device.type == "cuda"
    size = (4, 12) if settings.quick else (CANDIDATES, ITEMS if cuda else ITEMS_ON_CPU)
    return compared(settings.device, RECIPE, *size)


def compared(
    device: torch.device, recipe_name: str, candidates: int = CANDIDATES, items: int = ITEMS, seed: int = 0
) -> Iterator[Row]:
    """Yield a row per way of answering: mean score, agreement with float32's greedy answers, rank agreement."""
    scores: dict[str, list[float]] = {}
    answers: dict[str, list[list[str]]] = {}
    for ways in _answered(device, recipe_name, candidates, items, seed):
        for way, (score, said) in ways.items():
            scores.setdefault(way, []).append(score)
            answers.setdefault(way, []).append(said)
    reference = next(iter(scores))
    for way, found in scores.items():
        yield row_of(way, found, scores[reference]) | {
            "against": reference,
            "equal_answers": equal_share(answers[way], answers[reference]),
            "device": str(device),
            "candidates": candidates,
            "items": items,
        }
    beams = next(way for way in scores if "beams" in way)
    greedy = beams.split(",", maxsplit=1)[0]
    yield row_of(f"{greedy}, greedy", scores[greedy], scores[beams]) | {
        "against": beams,
        "equal_answers": equal_share(answers[greedy], answers[beams]),
    }


def become(
    merger: ResidentMerger, host: Engine, engines: Sequence[Engine], recipe: Recipe, rng: np.random.Generator
) -> None:
    """Turn the engines into a new candidate: one random weight per source, merged on the CPU and copied to all."""
    merger.merge(uniform(recipe, {name: float(rng.uniform(0.2, 1.2)) for name in recipe.source_names}))
    for engine in engines:
        for key, parameter in engine.tower.items():
            parameter.data.copy_(host.tower[key].data)


def _answered(
    device: torch.device, recipe_name: str, candidates: int, items: int, seed: int
) -> Iterator[dict[str, tuple[float, list[str]]]]:
    """Each candidate's score and answers by way of answering."""
    recipe = named_recipe(recipe_name)
    assembly = assemble(recipe, recipe.root)
    assert recipe.data is not None
    task, split = parse_split(recipe.data.validation or recipe.data.search)
    asked = task.items(split, items, seed)
    folder = assembly.owner.folder
    wide = Engine.load(folder, device=str(device), dtype=torch.float32)
    narrow = Engine.load(folder, device=str(device), dtype=torch.bfloat16)
    host = Engine.load(folder, dtype=torch.float32)
    merger = ResidentMerger(assembly, host.tower)
    greedy = replace(task.generation, num_beams=1, repetition_penalty=1.0)
    beams = replace(greedy, num_beams=BEAMS)
    sets = {id(engine): engine.prepare(asked, greedy, items) for engine in (wide, narrow)}
    # The cheaper ways are those of a search, which computes in bfloat16 on a GPU and in float32 on a CPU.
    searching, name = (narrow, "bfloat16") if device.type == "cuda" else (wide, "float32")
    several = Prepared(sets[id(searching)].prompts, beams, sets[id(searching)].batches)
    rng = np.random.default_rng(seed)
    for _ in watched(range(candidates), "fidelity: candidates", candidates):
        become(merger, host, (wide, narrow), recipe, rng)
        said = {
            "float32": wide.answer(sets[id(wide)]),
            "float32, generate": _by_generate(wide, sets[id(wide)]),
            "bfloat16": narrow.answer(sets[id(narrow)]),
            "bfloat16, generate": _by_generate(narrow, sets[id(narrow)]),
            f"{name}, 8-bit products": _eight_bit(searching, sets[id(searching)]),
            f"{name}, {BEAMS} beams": searching.answer(several),
        }
        yield {way: (float(np.mean(score_answers(task, asked, texts).scores)), texts) for way, texts in said.items()}


def _by_generate(engine: Engine, prepared: Prepared) -> list[str]:
    """The same prompts through `generate`."""
    ids, mask = engine._pad(prepared.prompts)
    with torch.inference_mode():
        made = engine.model.generate(
            input_ids=ids,
            inputs_embeds=engine._embed(prepared.prompts, ids, mask),
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=prepared.generation.max_new_tokens,
        )
    texts = engine.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _eight_bit(engine: Engine, prepared: Prepared) -> list[str]:
    assert engine.lean is not None
    generation = replace(prepared.generation, eight_bit=True)
    return engine.answer(Prepared(prepared.prompts, generation, prepared.batches))


def row_of(way: str, found: Sequence[float], reference: Sequence[float]) -> Row:
    """Mean score of one way of answering, and how its ranking of candidates agrees with the reference's.

    The agreement is None where all scores are tied, because a ranking of them is undefined.
    """
    ranked = min(len(set(found)), len(set(reference))) > 1
    return {
        "what": way,
        "mean_score": float(np.mean(found)),
        "largest_difference": float(np.max(np.abs(np.subtract(found, reference)))),
        "kendall": float(kendalltau(found, reference).statistic) if ranked else None,
        "spearman": float(spearmanr(found, reference).statistic) if ranked else None,
        "same_best": int(np.argmax(found)) == int(np.argmax(reference)),
    }


def equal_share(said: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> float:
    """The share of all candidates' answers that equal the reference's, 0 to 1."""
    pairs = [
        (one, other)
        for row, others in zip(said, reference, strict=True)
        for one, other in zip(row, others, strict=True)
    ]
    return sum(one == other for one, other in pairs) / len(pairs)
