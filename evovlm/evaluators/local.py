"""The local evaluator: turns the resident model into a candidate, lets it answer and scores the answers.

Knows one assembly and one engine; no searchers and no study folders. Items come with the task that asks and marks them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from evovlm.engines.batches import LARGEST, LARGEST_ON_GPU, fitting_batch
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared, Prompt, prepared_of
from evovlm.engines.schedule import Spent
from evovlm.evaluators._resident import computing_dtype, open_resident
from evovlm.evaluators.cache import Answers, asks_several, way_of_asking
from evovlm.evaluators.evaluation import Evaluation, gathered
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.choose import AUTOMATIC, Keeping
from evovlm.recipe.schema import Recipe
from evovlm.system.progress import Progress
from evovlm.system.roofline import Rates
from evovlm.tasks import Generation, Item, Task
from evovlm.tasks.item_sets import ItemSet

__all__ = ["Evaluation", "LocalEvaluator", "OnHalved", "answer_telling", "computing_dtype", "score_answers"]

log = logging.getLogger(__name__)
OnHalved = Callable[[int], None]


def score_answers(task: Task, items: Sequence[Item], answers: Sequence[str]) -> Evaluation:
    """Score answers against their items, in order."""
    scored = [task.score(item, answer) for item, answer in zip(items, answers, strict=True)]
    return Evaluation(
        scores=tuple(score.score for score in scored),
        exact=tuple(score.exact for score in scored),
        answers=tuple(answers),
    )


def answer_telling(
    engine: Engine, prepared: Prepared, on_halved: OnHalved | None, progress: Progress | None = None
) -> list[str]:
    """Return the engine's answers; `on_halved` is called with the size of each batch that was halved.

    It is called even if answering fails. `progress` is called with the number of answered questions and of all. Raises
    the same errors as `Engine.answer`.
    """
    before, answered = len(prepared.halved), 0

    def count(more: int) -> None:
        nonlocal answered
        answered += more
        if progress is not None:
            progress(answered, len(prepared.prompts))

    count(0)
    try:
        return engine.answer(prepared, None if progress is None else count)
    finally:
        if on_halved is not None:
            for rows in prepared.halved[before:]:
                on_halved(rows)


class LocalEvaluator:
    """One resident model on one device, which is turned into each candidate, by a merge or by a route.

    `batch`: the most items per batch; `auto`: as many as should fit into the memory that is free when the first set is
    prepared. `threads`: for torch; None keeps its setting. `on_halved` is called with the size
    of each batch that did not fit into memory and was halved. `cache`: its answers are not generated again. `tell` is
    called with a sentence: where sources are kept, and what is merged or loaded in a slower way. `self_check`: compare
    the engine's logits with those of the model's own forward pass.
    """

    def __init__(
        self,
        assembly: Assembly,
        *,
        batch: int | Literal["auto"],
        device: str = "cpu",
        threads: int | None = None,
        on_halved: OnHalved | None = None,
        cache: Answers | None = None,
        keeping: Keeping = AUTOMATIC,
        tell: Callable[[str], None] | None = None,
        self_check: bool = True,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.assembly = assembly
        self._batch = batch
        self.on_halved = on_halved
        self.cache = cache
        self.self_check = self_check
        self.tell = tell
        self.resident = open_resident(assembly, device, keeping, tell, self_check=self_check)
        self.engine = self.resident.engine
        # A prompt depends only on the item and on how it is asked, not on the set.
        self._sets: dict[tuple[Generation, tuple[Item, ...]], Prepared] = {}
        self._prompts: dict[tuple[str, Item], Prompt] = {}
        self._work: dict[tuple[Generation, str, int], Spent] = {}  # by set and number of its items asked

    def floors(self, rates: Rates, items: ItemSet) -> dict[str, float]:
        """Return lower bounds in seconds by phase, on a machine with these rates.

        Phases without a known bound are omitted. Prefill and decode: for the last candidate that was asked the same
        number of items of the set.
        """
        key = _work_key(items)
        answering = self._work[key].floors(rates.matrix, rates.copy) if key in self._work else {}
        return self.resident.floors(rates) | answering

    def batch_for(self, generation: Generation) -> int:
        """The most items per batch; an automatic one is chosen at the first call, and kept."""
        if self._batch == "auto":
            largest = LARGEST_ON_GPU if self.engine.device.startswith("cuda") else LARGEST
            self._batch = fitting_batch(self.engine, generation, largest)
            (self.tell or log.info)(f"batch: auto means {self._batch} questions at a time here, by free memory")
        return self._batch

    def prepare(self, items: ItemSet) -> Prepared:
        """Return tokens and vision features of a set of items: computed once and used for every candidate."""
        generation = items.task.generation
        key = (generation, items.items)
        if key not in self._sets:
            known = self._known_prompts(items)
            if known is None:
                self._sets[key] = self.engine.prepare(items, generation, self.batch_for(generation))
                prompts = zip(items, self._sets[key].prompts, strict=True)
                self._prompts.update(((repr(generation), item), prompt) for item, prompt in prompts)
            else:  # asked before in another precision, which changes no prompt
                self._sets[key] = prepared_of(known, generation, self.batch_for(generation))
        return self._sets[key]

    def _known_prompts(self, items: ItemSet) -> list[Prompt] | None:
        """The items' prompts if all are prepared: by settings but their precision, which `repr` leaves out."""
        asked = repr(items.task.generation)
        found = [self._prompts.get((asked, item)) for item in items]
        known = [prompt for prompt in found if prompt is not None]
        return known if len(known) == len(items) else None

    def _part(self, items: ItemSet) -> Prepared:
        """Prompts of the items, taken from prepared sets if all are there; else the items prepared as a new set."""
        generation = items.task.generation
        known = None if (generation, items.items) in self._sets else self._known_prompts(items)
        if known is None:
            return self.prepare(items)
        return prepared_of(known, generation, self.batch_for(generation))

    def evaluate(self, recipe: Recipe, items: ItemSet, progress: Progress | None = None) -> Evaluation:
        """Merge, answer and score with the items' own task; only items whose answers are not in the cache are asked.

        `progress` is called with the number of answered questions and of those that have to be asked, if any.
        Raises NotFinite if weights or logits are not finite, MemoryError or torch.OutOfMemoryError if even the
        smallest batch does not fit.
        """
        if self.cache is None:
            return self._evaluate(recipe, items, progress)
        digest = recipe.digest()
        way = way_of_asking(items.task, items.where, several=asks_several(self.assembly.recipe))
        known = self.cache.known(way, digest, [item.key for item in items])
        missing = items.of(item for item in items if item.key not in known)
        seconds: dict[str, float] = {}
        if missing:
            made = self._evaluate(recipe, missing, progress)
            seconds = made.seconds
            known |= self.cache.keep(way, digest, [item.key for item in missing], made)
        return gathered([known[item.key] for item in items], seconds)

    def _evaluate(self, recipe: Recipe, items: ItemSet, progress: Progress | None) -> Evaluation:
        if progress is not None:
            progress(0, len(items))
        prepared = self._part(items)
        started = time.perf_counter()
        self.resident.become(recipe)
        merged = time.perf_counter()
        answers = answer_telling(self.engine, prepared, self.on_halved, progress)
        answered = time.perf_counter()
        evaluation = score_answers(items.task, items, answers)
        seconds = {
            "merge": round(merged - started, 4),
            **self._answering(answered - merged, items),
            "score": round(time.perf_counter() - answered, 4),
        }
        return Evaluation(evaluation.scores, evaluation.exact, evaluation.answers, seconds)

    def _answering(self, whole: float, items: ItemSet) -> dict[str, float]:
        """Seconds for prefill, decode and the rest if the engine measured them, else only the total."""
        spent = self.engine.spent
        if spent is None:
            return {"answer": round(whole, 4)}
        self._work[_work_key(items)] = spent
        rest = max(0.0, whole - spent.prefill - spent.decode)
        return {"prefill": round(spent.prefill, 4), "decode": round(spent.decode, 4), "answer": round(rest, 4)}


def _work_key(items: ItemSet) -> tuple[Generation, str, int]:
    return items.task.generation, items.where, len(items)
