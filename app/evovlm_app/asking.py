"""Check a visitor's question, have the chosen models answer it, and return rows; used by the page and the API.

Knows offers, limits, samples and streaming; no components.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from evovlm_app.cards import seen_rows, solved_rows
from evovlm_app.catalogue import Offering
from evovlm_app.limits import Refusal, read_question
from evovlm_app.model_cache import ModelCache
from evovlm_app.samples import Samples, visitor_item
from evovlm_app.streaming import ENDS, Reply, compare, gathered

Rows = list[dict[str, Any]]
log = logging.getLogger(__name__)


class Asker:
    """Answers questions with the offered models, loaded through the cache."""

    def __init__(self, offering: Offering, cache: ModelCache) -> None:
        self.offering = offering
        self.cache = cache
        self.scenes = Samples.of(offering.tasks["vlm"])
        self.problems = Samples.of(offering.tasks["llm"])

    def see(self, picture: Image.Image | Refusal | None, question: str | None, names: Sequence[str]) -> Iterator[Rows]:
        """Yield the rows of answers about an image as the answers grow.

        Raises Refusal for an unusable image or question, an unknown model or none, and a model beyond the memory
        budget.
        """
        picture, question = checked(picture), read_question(question)
        offers = self.offering.choose("vlm", names)
        references = self.scenes.references(picture, question)
        generation = self.offering.tasks["vlm"].generation
        steps = compare(self.cache, offers, generation, visitor_item(question, picture, references))
        for replies in gathered(steps, lambda last: note("compare", last)):
            yield seen_rows(replies, references)

    def solve(self, problem: str | None, names: Sequence[str], expected: str | None) -> Iterator[Rows]:
        """Yield the rows of answers to a word problem as the answers grow; `expected` is the correct number, if known.

        Raises Refusal for an unusable problem, an unknown model or none, and a model beyond the memory budget.
        """
        problem = read_question(problem)
        offers = self.offering.choose("llm", names)
        known = self.problems.references(None, problem)
        right = (expected or "").strip()[:40] or (known[0] if known else None)
        generation = self.offering.tasks["llm"].generation
        steps = compare(self.cache, offers, generation, visitor_item(problem, None))
        for replies in gathered(steps, lambda last: note("maths", last)):
            yield solved_rows(replies, right)


def checked(picture: Image.Image | Refusal | None) -> Image.Image:
    """Return the image. Raises the Refusal passed in its place, or Refusal("no_picture") if it is None."""
    if picture is None:
        raise Refusal("no_picture")
    if isinstance(picture, Refusal):
        raise picture
    return picture


def note(where: str, replies: Sequence[Reply]) -> None:
    """Log the token count per model and the total seconds: `answered` if all replies finished, otherwise `left`."""
    whole = bool(replies) and all(reply.state in ENDS for reply in replies)
    facts = {
        "where": where,
        "models": {reply.model: reply.tokens for reply in replies},
        "seconds": round(sum(reply.seconds for reply in replies), 3),
    }
    log.info("answered" if whole else "left", extra={"facts": facts})
