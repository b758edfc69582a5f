"""Streaming: several models answer one question at once, a token each in turn.

Knows cache, engines and items; no pages. Closing the generator, as happens when a visitor leaves, stops the work.
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
from evovlm.tasks import Generation, Item
from evovlm_app.catalogue import Offer
from evovlm_app.model_cache import ModelCache

State = Literal["waiting", "loading", "writing", "done", "failed"]
log = logging.getLogger(__name__)


@dataclass
class Reply:
    """One model's answer as far as it has come. `seconds`: its own share of the time, loading not counted."""

    model: str
    state: State = "waiting"
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    blind: bool = False  # it had to answer without the picture
    merged: bool = False  # made in memory from others


def compare(cache: ModelCache, offers: Sequence[Offer], generation: Generation, item: Item) -> Iterator[list[Reply]]:
    """The replies of all models after each round of tokens, and after each change of state.

    Models that do not fit into memory together answer one run after another.
    """
    replies = {offer.name: Reply(offer.name, merged=offer.recipe is not None) for offer in offers}
    yield list(replies.values())
    for wave in cache.waves(offers):
        for offer in wave:
            if not cache.holds(offer):
                replies[offer.name].state = "loading"
        if any(replies[offer.name].state == "loading" for offer in wave):
            yield list(replies.values())
        running = [answer(cache.take(offer), generation, item, replies[offer.name]) for offer in wave]
        while running:
            running = [one for one in running if _advances(one)]
            yield list(replies.values())


def answer(engine: Engine, generation: Generation, item: Item, reply: Reply) -> Iterator[Reply]:
    """One model's reply, updated in place and yielded after each token."""
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
    yield reply


def gathered(steps: Iterator[list[Reply]], done: Callable[[list[Reply]], None]) -> Iterator[list[Reply]]:
    """The same steps; `done` hears of the last, or of where a visitor left."""
    last: list[Reply] = []
    try:
        for last in steps:
            yield [replace(reply) for reply in last]
    finally:
        done(last)


def _timed(pieces: Iterator[tuple[str, int]], reply: Reply, started: float) -> Iterator[tuple[str, int]]:
    """The pieces; the time between them, in which other models have their turn, is not counted."""
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
