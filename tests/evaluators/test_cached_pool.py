"""What a pool's workers make is kept by the driver; nobody generates a second time. No cluster and no models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evovlm.evaluators.cache import AnswerCache, CarriedAnswers, way_of_asking
from evovlm.evaluators.cached_pool import Asked, CachedPool, PooledAnswers, Request, Response
from evovlm.evaluators.evaluation import Evaluation, gathered
from evovlm.evaluators.pool import Outcome
from evovlm.evaluators.question import Question
from evovlm.recipe.schema import Recipe
from evovlm.tasks import load_task

WAY = way_of_asking(load_task("zoo-maths"), "zoo-maths:search")
ITEMS = ("a", "b", "c", "d")
ASKED = Asked(WAY, WAY, ITEMS, several=False)


def recipe(weight: float) -> Recipe:
    return Recipe.model_validate(
        {
            "kind": "llm",
            "base": {"model": "org/base"},
            "sources": [{"name": "ja", "model": "org/ja"}],
            "method": "task_arithmetic",
            "parameters": {"ja": {"weight": weight}},
        }
    )


class Workers:
    """A pool that does what remote workers do: `generated` has what a model was asked, `sizes` how many were out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.generated: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self._busy: dict[int, Request] = {}

    def free(self) -> int:
        return self.size - len(self._busy)

    def submit(self, ticket: int, work: Any) -> None:
        assert self.free() > 0
        self._busy[ticket] = work

    def wait(self) -> Sequence[Outcome]:
        self.sizes.append(len(self._busy))
        ticket = max(self._busy)  # the last first: out of step
        request = self._busy.pop(ticket)
        candidate = Recipe.model_validate_json(request.recipe)
        if candidate.of("ja").weight == 0.0:
            return [Outcome(ticket, "CandidateFault: every answer is empty", "w")]
        carried = CarriedAnswers()
        carried.load(request.known)
        digest = candidate.digest()
        wanted = list(ITEMS) if request.places is None else [ITEMS[place] for place in request.places]
        known = carried.known(WAY, digest, wanted)
        missing = [item for item in wanted if item not in known]
        self.generated += [(digest, item) for item in missing]
        made = Evaluation((1.0,) * len(missing), (True,) * len(missing), tuple(missing))
        known |= carried.keep(WAY, digest, missing, made)
        return [Outcome(ticket, Response(gathered([known[item] for item in wanted], {}), tuple(carried.made)), "w")]


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "answers.sqlite")


def test_only_what_nobody_has_answered_is_generated(cache: AnswerCache):
    workers = Workers(2)
    answer = PooledAnswers(CachedPool(workers, cache, ASKED))
    first = answer([Question(recipe(0.5), (0, 1)), Question(recipe(0.6), (0, 1))])
    second = answer([Question(recipe(0.5), (1, 2)), Question(recipe(0.6), (1,))])
    answers = [one.answers for one in [*first, *second] if not isinstance(one, str)]
    assert answers == [("a", "b"), ("a", "b"), ("b", "c"), ("b",)]
    assert len(workers.generated) == len(set(workers.generated)) == len(cache) == 5


def test_progress_is_told_for_what_workers_answer_and_not_for_what_the_cache_knows(cache: AnswerCache):
    answer = PooledAnswers(CachedPool(Workers(1), cache, ASKED))
    told: list[tuple[int, int]] = []
    first = [Question(recipe(0.5), (0, 1)), Question(recipe(0.6), (0, 1))]
    answer(first, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    answer([*first, Question(recipe(0.7), (0,))], lambda done, total: told.append((done, total)))
    assert told[2:] == [(3, 3)]


def test_twins_that_are_out_at_the_same_time_are_generated_once(cache: AnswerCache):
    workers = Workers(3)
    pool = CachedPool(workers, cache, ASKED)
    for ticket, weight in enumerate((0.5, 0.5, 0.7)):
        pool.submit(ticket, recipe(weight))
    assert pool.free() == 1, "a twin takes no worker"
    came: list[Outcome] = []
    while len(came) < 3:
        came += pool.wait()
    assert {outcome.ticket: outcome.result.answers for outcome in came} == dict.fromkeys(range(3), ITEMS)
    assert len(workers.generated) == 8


def test_after_a_restart_the_cache_answers_and_nobody_works(cache: AnswerCache):
    PooledAnswers(CachedPool(Workers(2), cache, ASKED))([Question(recipe(0.5))])
    workers = Workers(2)
    pool = CachedPool(workers, cache, ASKED)
    pool.submit(0, recipe(0.5))
    assert pool.free() == 0, "what has come is to be taken first"
    (outcome,) = pool.wait()
    assert (outcome.worker, outcome.result.answers) == ("cache", ITEMS)
    assert not workers.generated
    assert not workers.sizes


def test_a_failed_candidates_twin_is_tried_for_itself(cache: AnswerCache):
    answer = PooledAnswers(CachedPool(Workers(2), cache, ASKED))
    found = answer([Question(recipe(0.0)), Question(recipe(0.0)), Question(recipe(0.4))])
    assert found[:2] == ["CandidateFault: every answer is empty"] * 2
    assert len(cache) == 4


def test_all_workers_are_busy_while_there_is_work(cache: AnswerCache):
    workers = Workers(3)
    PooledAnswers(CachedPool(workers, cache, ASKED))([Question(recipe(0.1 * n), (n % 4,)) for n in range(1, 10)])
    assert workers.sizes == [3] * 7 + [2, 1]


def test_without_a_cache_everything_is_asked(cache: AnswerCache):
    workers = Workers(2)
    PooledAnswers(CachedPool(workers, None, ASKED))([Question(recipe(0.5)), Question(recipe(0.5))])
    assert len(workers.generated) == 8
    assert len(cache) == 0


def test_a_candidate_whose_cached_answers_are_all_empty_has_failed_and_a_part_of_them_has_not(cache: AnswerCache):
    """The cache answers for the workers, so it judges as they do."""
    silent = Evaluation((0.0,) * 4, (False,) * 4, ("",) * 4)
    cache.keep(WAY, recipe(0.5).digest(), ITEMS, silent)
    answer = PooledAnswers(CachedPool(Workers(2), cache, ASKED))
    whole, part = answer([Question(recipe(0.5)), Question(recipe(0.5), (0, 1))])
    assert whole == "CandidateFault: every answer is empty"
    assert not isinstance(part, str)
    assert part.answers == ("", "")
