"""A pool whose answers are cached by the driver: nothing is generated twice, even by different workers.

Knows pools, questions and the cache; no cluster, models or searches. A worker receives its candidate's known answers
and sends back the new ones. Only one question per candidate is out at a time; the next one waits for its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evovlm.evaluators.cache import AnswerCache, Row, Way
from evovlm.evaluators.evaluation import Evaluation, failed_if_silent, gathered
from evovlm.evaluators.pool import Outcome, Pool
from evovlm.evaluators.question import Question
from evovlm.recipe.schema import Recipe
from evovlm.system.progress import Progress

BY_CACHE = "cache"  # the `worker` of outcomes that came from the cache


@dataclass(frozen=True)
class Request:
    """A question as sent to a worker, with the candidate's known answers."""

    recipe: str  # JSON
    places: tuple[int, ...] | None
    cheap: bool
    known: tuple[Row, ...]


@dataclass(frozen=True)
class Response:
    """A worker's reply: the evaluation, and the answers that were not known before."""

    evaluation: Evaluation
    made: tuple[Row, ...]


@dataclass(frozen=True)
class Asked:
    """How questions are asked.

    `way`: at full fidelity. `cheaper`: at the lower one. `items`: keys of the search items. `several`: whether there
    are several objectives.
    """

    way: Way
    cheaper: Way
    items: tuple[str, ...]
    several: bool


class CachedPool:
    """A pool for recipes or questions, on top of a pool for requests. `cache` None: answers are not cached."""

    def __init__(self, pool: Pool, cache: AnswerCache | None, asked: Asked) -> None:
        self._pool, self._cache, self._asked = pool, cache, asked
        self._out: dict[int, str] = {}  # ticket -> the candidate's digest
        self._held: list[tuple[int, Question]] = []
        self._done: list[Outcome] = []

    @property
    def size(self) -> int:
        """See `Pool`."""
        return self._pool.size

    def free(self) -> int:
        """See `Pool`. 0 while outcomes from the cache wait to be fetched; held questions reserve their workers."""
        if self._done:
            return 0
        return max(0, self._pool.free() - sum(self._may_go(question) for _, question in self._held))

    def submit(self, ticket: int, work: Recipe | Question) -> None:
        """Give a candidate or question to a free worker, or answer it from the cache."""
        question = work if isinstance(work, Question) else Question(work)
        known = self._known(question)
        if known is not None:
            self._done.append(Outcome(ticket, known, BY_CACHE))
        elif self._may_go(question):
            self._send(ticket, question)
        else:
            self._held.append((ticket, question))

    def wait(self) -> Sequence[Outcome]:
        """See `Pool`. New answers from workers are in the cache file when this returns."""
        self._release()
        if not self._done:
            self._done += [self._taken(outcome) for outcome in self._pool.wait()]
            self._release()
        came, self._done = self._done, []
        return came

    def _taken(self, outcome: Outcome) -> Outcome:
        del self._out[outcome.ticket]
        response = outcome.result
        if not isinstance(response, Response):
            return outcome
        if self._cache is not None:
            self._cache.add(response.made)
        return Outcome(outcome.ticket, response.evaluation, outcome.worker)

    def _release(self) -> None:
        """Send or answer held questions whose candidate's earlier question has been answered."""
        held, self._held = self._held, []
        for ticket, question in held:
            known = self._known(question)
            if known is not None:
                self._done.append(Outcome(ticket, known, BY_CACHE))
            elif self._may_go(question) and self._pool.free() > 0:
                self._send(ticket, question)
            else:
                self._held.append((ticket, question))

    def _may_go(self, question: Question) -> bool:
        return self._cache is None or question.recipe.digest() not in self._out.values()

    def _send(self, ticket: int, question: Question) -> None:
        digest = question.recipe.digest()
        known = self._cache.rows(digest) if self._cache is not None else ()
        recipe = question.recipe.model_dump_json(by_alias=True)
        self._out[ticket] = digest
        self._pool.submit(ticket, Request(recipe, question.places, question.cheap, known))

    def _known(self, question: Question) -> Evaluation | str | None:
        """The evaluation, or why it failed, if the cache holds every answer to the question, else None."""
        whole = question.places is None and not question.cheap
        if self._cache is None or (whole and self._asked.several):
            return None
        items = self._asked.items
        wanted = list(items) if question.places is None else [items[place] for place in question.places]
        way = self._asked.cheaper if question.cheap else self._asked.way
        known = self._cache.known(way, question.recipe.digest(), wanted)
        if len(known) < len(set(wanted)):
            return None
        found = gathered([known[item] for item in wanted], {})
        return failed_if_silent(found) if whole else found


class PooledAnswers:
    """Evaluates questions with a pool, all at once; returns when all are done."""

    def __init__(self, pool: CachedPool) -> None:
        self._pool = pool
        self._next = 0

    def __call__(self, questions: Sequence[Question], progress: Progress | None = None) -> list[Evaluation | str]:
        """See `AnswerAll`; `progress` counts questions."""
        first, self._next = self._next, self._next + len(questions)
        waiting = list(enumerate(questions, start=first))
        found: dict[int, Evaluation | str] = {}
        while len(found) < len(questions):
            while waiting and self._pool.free() > 0:
                self._pool.submit(*waiting.pop(0))
            for outcome in self._pool.wait():
                found[outcome.ticket] = outcome.result
                if progress is not None and outcome.worker != BY_CACHE:
                    progress(len(found), len(questions))
        return [found[number] for number in range(first, first + len(questions))]
