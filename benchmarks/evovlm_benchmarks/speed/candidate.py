"""Time of a whole candidate, from merge to answers, against each phase's floor and against plain transformers.

Knows mergers and engines with random weights; the caller measures the machine's rates in the same run. Because weights
are random and no token ends an answer, every answer has full length. Vision features are computed before the timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared, Prompt, prepared_of
from evovlm.engines.schedule import Spent
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.gpu import DeviceMerger
from evovlm.merging.live.placement import Place, Placement
from evovlm.recipe.schema import Recipe
from evovlm.tasks import Generation
from evovlm_benchmarks.merge_speed import SCALES
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.full_size import (
    FULL_EYES,
    SMALL_EYES,
    base_tile_alone,
    prompts_of,
    random_engine,
    random_pixels,
)
from evovlm_benchmarks.speed.settings import Settings
from evovlm_benchmarks.speed.torch_twin import torch_merge
from evovlm_benchmarks.speed.towers import BASE, random_tower, recipe_of, stored

QUESTIONS = 64
NEW_TOKENS = 32
EACH = (1, 4)  # questions per image
MOST = 2  # growth is measured up to this many times the default number of questions
PLAIN_BATCH = 32
REPEATS = 3
METHOD = "dare_ties"

Row = dict[str, Any]


class Bench:
    """One resident model, one merger, and the clock. Small on a CPU: 16 questions, 8 new tokens."""

    def __init__(self, scale: str, device: torch.device, rates: Rates) -> None:
        self.device, self.rates, self.scale = device, rates, scale
        self.cuda = device.type == "cuda"
        self.eyes = FULL_EYES if self.cuda else SMALL_EYES
        tower = replace(SCALES[scale], vocabulary=SCALES[scale].vocabulary + 64)
        self.engine = random_engine(tower, self.eyes, device)
        self.recipe = recipe_of(2, METHOD)
        self.tower = random_tower(tower, self.recipe, device)
        self.questions, self.tokens = (QUESTIONS, NEW_TOKENS) if self.cuda else (16, 8)
        self.pixels = random_pixels(MOST * self.questions, self.eyes, device)
        self.merger: Any = None
        self.placed: Place | None = None
        self.files: TemporaryDirectory[str] | None = None  # the memory-mapped sources
        self.while_read = True  # lazy merge of streamed sources during prefill; False: merge before it
        self.merge_bytes = 4 * sum(parameter.nbytes for parameter in self.engine.tower.values())

    def place(self, place: Place, work: Path | None = None) -> None:
        """Load the sources: on the GPU, in pinned host memory, or memory-mapped from files in a folder below `work`."""
        if self.placed == place:
            return
        self.merger, self.placed = None, place
        if self.files is not None:
            self.files.cleanup()
            self.files = None
        self.free()
        if not self.cuda:
            self.merger = ResidentMerger(self.tower, self.engine.tower)
            return
        each = self.merge_bytes // 4
        labels = (BASE, *self.recipe.source_names)
        places: Placement = Placement(dict.fromkeys(labels, place), dict.fromkeys(labels, each))
        tower = self.tower
        if place == "disk":
            self.files = TemporaryDirectory(prefix="evovlm-speed-", dir=work)
            tower = stored(self.tower, Path(self.files.name))
        self.merger = DeviceMerger(tower, self.engine.tower, places, pending=self.engine.pending)

    def free(self) -> None:
        """Free the previous answers' KV cache and unused GPU memory, and reset the peak counter."""
        if self.engine.lean is not None:
            self.engine.lean.drop_runner()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def prompts(self, each: int, questions: int | None = None) -> list[Prompt]:
        """`questions` prompts (default `self.questions`), `each` of them per image."""
        images = {name: value[: (questions or self.questions) // each] for name, value in self.pixels.items()}
        return prompts_of(self.engine, images, each)

    def prepared(self, prompts: Sequence[Prompt], batch: int = QUESTIONS, *, eight_bit: bool = False) -> Prepared:
        """The prompts with generation settings and batch plan."""
        return prepared_of(list(prompts), Generation("", self.tokens, eight_bit=eight_bit), batch)

    def candidate(self, what: str, prepared: Prepared, repeats: int = REPEATS, **more: Any) -> Row:
        """Time a candidate 1 + `repeats` times; reports the first run (with set-up) apart, and the median of the rest.

        Times are in seconds. `more`: further columns of the row.
        """
        self.free()
        runs = [self._once(prepared, number) for number in range(1 + repeats)]
        first, runs = runs[0], runs[1:]
        chosen = sorted(runs, key=lambda run: sum(run[:2]))[len(runs) // 2]
        merge, answer, spent = chosen
        floors = self.floors(spent)
        seconds, floor = merge + answer, sum(floors.values())
        return (
            {
                "what": what,
                "method": METHOD,
                "scale": self.scale,
                "sources": 2,
                "seconds": seconds,
                "floor_seconds": floor,
                "ratio": seconds / floor,
                "phases": {"merge": merge, "prefill": spent.prefill, "decode": spent.decode},
                "floors": floors,
                "other": answer - spent.prefill - spent.decode,
                "first_seconds": first[0] + first[1],
                "spread": [sum(run[:2]) for run in runs],
                "peak_bytes": torch.cuda.max_memory_allocated() if self.cuda else None,
                "halved": list(prepared.halved),
                "questions": len(prepared.prompts),
                "steps": spent.steps,
            }
            | self._cache()
            | more
        )

    def _cache(self) -> Row:
        """The KV cache: rows, bytes, and capacity in tokens; None if there is none."""
        runner = self.engine.lean._runner if self.engine.lean is not None else None
        keys = getattr(runner, "_keys", None)
        return {
            "rows": getattr(runner, "slots", None),
            "cache_bytes": 2 * keys.nbytes if isinstance(keys, torch.Tensor) else None,
            "capacity": keys.shape[2] if isinstance(keys, torch.Tensor) else None,
        }

    def floors(self, spent: Spent) -> dict[str, float]:
        """The minimum seconds of each phase, at the rates measured in this run."""
        return {"merge": self.merge_bytes / self.rates.copy} | spent.floors(self.rates.matrix, self.rates.copy)

    def _once(self, prepared: Prepared, number: int) -> tuple[float, float, Spent]:
        recipe = _varied(self.recipe, number)
        started = self.now()
        self.merger.merge(recipe)
        if not self.while_read:
            self.engine.pending.finish()
        merged = time.perf_counter()  # mergers synchronise themselves, except for layers merged during prefill
        self.engine.answer(prepared)
        assert self.engine.lean is not None
        return merged - started, self.now() - merged, self.engine.lean.spent

    def now(self) -> float:
        """The host's clock in seconds, after synchronising the device."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


@lru_cache(maxsize=1)
def _bench(scale: str, device: torch.device, rates: Rates) -> Bench:
    return Bench(scale, device, rates)


def bench_for(settings: Settings, rates: Rates) -> Bench:
    """The bench; all parts of a run share it."""
    return _bench(settings.scale, settings.device, rates)


def candidate_rows(settings: Settings, rates: Rates) -> Iterator[Row]:
    """Yield rows for one and four questions per image with our engine, reduced fidelity, and plain transformers."""
    bench = bench_for(settings, rates)
    bench.place("gpu")
    ones = bench.prompts(1)
    seconds: dict[int, float] = {}
    for each in EACH:
        prepared = bench.prepared(ones if each == 1 else bench.prompts(each))
        row = bench.candidate(f"candidate, {each} a picture", prepared)
        seconds[each] = row["seconds"]
        yield row
    yield bench.candidate("base tile alone", bench.prepared(base_tile_alone(ones, bench.engine, bench.eyes)))
    yield _eight_bit(bench, ones)
    _drop(bench)
    for each in EACH:
        row = _plain(bench, ones if each == 1 else bench.prompts(each), each)
        yield row | {"times_ours": row["seconds"] / seconds[each]}


def _eight_bit(bench: Bench, prompts: Sequence[Prompt]) -> Row:
    row = bench.candidate("8-bit products", bench.prepared(prompts, eight_bit=True))
    # The floor assumes 16-bit products, so a ratio to it would be meaningless.
    return row | {"floor_seconds": None, "ratio": None}


def _drop(bench: Bench) -> None:
    """Free our engine's cache and the merger's sources to make room for plain transformers."""
    bench.merger = bench.placed = None
    bench.free()


def _plain(bench: Bench, prompts: Sequence[Prompt], each: int) -> Row:
    """Merge in torch, then call `generate`, which encodes the images again, padded to the longest prompt of a batch."""
    merge = _torch_merge_of(bench)
    batches = [range(start, min(start + PLAIN_BATCH, len(prompts))) for start in range(0, len(prompts), PLAIN_BATCH)]
    if each == EACH[0]:
        _generate(bench, prompts, batches[0], each)  # warm-up; later calls need none
    started = bench.now()
    merge()
    merged = bench.now()
    tokens = [row for batch in batches for row in _generate(bench, prompts, batch, each)]
    ended = bench.now()
    peak = torch.cuda.max_memory_allocated() if bench.cuda else None
    ours = bench.engine.answer(bench.prepared(prompts))  # the same weights
    _drop(bench)
    texts = [text.strip() for text in bench.engine.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    same = sum(text == other for text, other in zip(texts, ours, strict=True))
    return {
        "what": f"plain transformers, {each} a picture",
        "method": METHOD,
        "questions": len(prompts),
        "scale": bench.scale,
        "sources": 2,
        "seconds": ended - started,
        "phases": {"merge": merged - started, "answer": ended - merged},
        "peak_bytes": peak,
        "equal_answers": same / len(texts),
        "equal_first_words": sum(text.split()[:1] == other.split()[:1] for text, other in zip(texts, ours, strict=True))
        / len(texts),
    }


@torch.inference_mode()
def _generate(bench: Bench, prompts: Sequence[Prompt], batch: range, each: int) -> list[Tensor]:
    engine: Engine = bench.engine
    ids, mask = engine._pad([prompts[index] for index in batch])
    pictures = torch.tensor([index // each for index in batch], device=bench.device)
    inputs = {name: value[pictures] for name, value in bench.pixels.items()}
    made = engine.model.generate(
        input_ids=ids, attention_mask=mask, **inputs, max_new_tokens=bench.tokens, do_sample=False
    )
    return list(made[:, ids.shape[1] :])


def _torch_merge_of(bench: Bench) -> Callable[[], None]:
    """DARE-TIES in torch, tensor by tensor, over one base and two sources per shape; moves as many bytes as ours."""
    kept: dict[tuple[int, ...], tuple[Tensor, list[Tensor]]] = {}
    live = [parameter.data for parameter in bench.engine.tower.values()]
    for tensor in live:
        if tuple(tensor.shape) not in kept:
            base = torch.randn_like(tensor) * 0.02
            kept[tuple(tensor.shape)] = (base, [base + torch.randn_like(base) * 0.002 for _ in range(2)])

    def merge() -> None:
        for tensor in live:
            base, sources = kept[tuple(tensor.shape)]
            torch_merge(base, sources, (0.6, 0.5), (0.5, 0.5), tensor)

    merge()
    return merge


def _varied(recipe: Recipe, number: int) -> Recipe:
    """A new candidate with weights that no earlier one had."""
    parameters = {
        name: one.model_copy(update={"weight": round(0.4 + 0.05 * number + 0.01 * index, 3)})
        for index, (name, one) in enumerate(recipe.parameters.items())
    }
    return recipe.model_copy(update={"parameters": parameters})
