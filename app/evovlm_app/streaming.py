"""Streaming: several models answer one question at once, taking turns token by token.

Knows cache, engines and items; no pages. Closing the generator, as when a visitor leaves, stops the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from evovlm.engines.hf import Engine
from evovlm.evaluators.single_model import without_image
from evovlm.system.errors import DataError, UnfitImage
from evovlm.tasks import Generation, Item
from evovlm_app.catalogue import Offer
from evovlm_app.model_cache import ModelCache

State = Literal["waiting", "loading", "writing", "done", "failed", "unfit", "unasked"]
ENDS: tuple[State, ...] = ("done", "failed", "unfit", "unasked")
log = logging.getLogger(__name__)


@dataclass
class Reply:
    """One model's answer so far. `seconds`: the time spent on this model alone, without loading."""

    model: str
    state: State = "waiting"
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    blind: bool = False  # answered without the image
    merged: bool = False  # a merge made in memory


def compare(cache: ModelCache, offers: Sequence[Offer], generation: Generation, item: Item) -> Iterator[list[Reply]]:
    """Yield the replies of all models after each round of tokens, and after each change of state.

    `generation`: how models are asked whose offer does not say so. Models that do not fit into memory together answer
    in groups, one group after another. Raises Refusal if one model alone exceeds the memory budget.
    """
    replies = {offer.name: Reply(offer.name, merged=offer.recipe is not None) for offer in offers}
    yield list(replies.values())
    for wave in cache.waves(offers):
        for offer in wave:
            if not cache.holds(offer):
                replies[offer.name].state = "loading"
        if any(replies[offer.name].state == "loading" for offer in wave):
            yield list(replies.values())
        running = [
            answer(cache.take(offer), offer.generation or generation, item, replies[offer.name]) for offer in wave
        ]
        while running:
            running = [one for one in running if _advances(one)]
            yield list(replies.values())


def answer(engine: Engine, generation: Generation, item: Item, reply: Reply) -> Iterator[Reply]:
    """Update one model's reply in place, and yield it after each token.

    On non-finite values or lack of memory its state becomes "failed", if its processor refuses the image "unfit", and
    if it cannot be asked in this way, as without a chat template, "unasked"; the error is logged.
    """
    reply.state = "writing"
    started = time.perf_counter()
    items, asked = [item], generation
    if item.image is not None and not engine.sees:
        items, asked = without_image(items, generation)
        reply.blind = True
    try:
        pieces = engine.stream(engine.prepare(items, asked, 1))
        for text, tokens in _timed(pieces, reply, started):
            reply.text, reply.tokens = text, tokens
            yield reply
        reply.state = "done"
    except (FloatingPointError, MemoryError, torch.OutOfMemoryError) as error:
        log.warning("answer failed", extra={"facts": {"model": reply.model, "error": str(error)}})
        reply.state, reply.text = "failed", ""
    except UnfitImage as error:  # another model's processor may take it
        log.warning("image refused", extra={"facts": {"model": reply.model, "error": str(error)}})
        reply.state, reply.text = "unfit", ""
    except DataError as error:
        log.warning("model not asked", extra={"facts": {"model": reply.model, "error": str(error)}})
        reply.state, reply.text = "unasked", ""
    yield reply


def gathered(steps: Iterator[list[Reply]], done: Callable[[list[Reply]], None]) -> Iterator[list[Reply]]:
    """Yield copies of the steps; at the end, or when the visitor leaves, call `done` with the latest replies."""
    last: list[Reply] = []
    try:
        for last in steps:
            yield [replace(reply) for reply in last]
    finally:
        done(last)


def _timed(pieces: Iterator[tuple[str, int]], reply: Reply, started: float) -> Iterator[tuple[str, int]]:
    """Yield the pieces and add their time to `reply.seconds`, without the other models' turns in between."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration:
            reply.seconds += time.perf_counter() - started
            return
        reply.seconds += time.perf_counter() - started
        yield piece
        started = time.perf_counter()


def _advances(steps: Iterator[Reply]) -> bool:
    return next(steps, None) is not None
