"""Less effort first: who is promoted, what the others count as, and what the log tells. Numbers alone, no models."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.question import Question
from evovlm.evaluators.racer import RacedEvaluation, Racer
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.search_loop import search_raced, whole_race
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Fidelity
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.race import RaceSettings
from evovlm.search.space.parameters import express, genes_of
from evovlm.study.study import Study
from evovlm.system.errors import RecipeError
from evovlm.system.progress import Progress
from evovlm.tasks import load_task
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.protocol import Generation

RECIPES = Path(__file__).parent.parent.parent / "recipes"
FIDELITY = Fidelity(new_tokens=4, promote=0.5, audit=3)
ITEMS = 16
RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "task_arithmetic",
        "search": {"weight": [0.0, 1.0], "density": None, "fidelity": FIDELITY.model_dump()},
    }
)
GENES = genes_of(RECIPE, 4)
HARD = np.linspace(-10, 10, ITEMS)


class Answers:
    """Full scores are the weight of `ja` in per cent; cheap ones are 20 points lower, and noisier by `noise`."""

    def __init__(self, noise: float = 0.0) -> None:
        self.asked: list[Question] = []
        self._noise = noise

    def __call__(self, questions: Sequence[Question], progress: Progress | None = None) -> list[Evaluation | str]:
        self.asked += questions
        if progress is not None:
            progress(len(questions), len(questions))
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Evaluation | str:
        weight = question.recipe.of("ja").weight
        assert isinstance(weight, float)
        if weight > 0.97:
            return "FloatingPointError: the logits are not finite"
        rng = np.random.default_rng(int(1e9 * weight))
        off = -20.0 + self._noise * rng.standard_normal() if question.cheap else 0.0
        places = list(question.places or range(ITEMS))
        scores = tuple(100 * weight + off + HARD[places])
        return Evaluation(scores, (False,) * len(places), ("x",) * len(places))


def raced(answers: Answers, generation: int, *weights: float) -> list[RacedEvaluation | str]:
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in weights]
    return Racer(answers, ITEMS, whole_race(ITEMS), 0, FIDELITY)(generation, recipes, None)


class SilentAtFirst(Answers):
    """No answer to the items below `until`, for any candidate."""

    def __init__(self, until: int) -> None:
        super().__init__()
        self._until = until

    def _one(self, question: Question) -> Evaluation | str:
        places = list(question.places or range(ITEMS))
        said = tuple("" if place < self._until else "x" for place in places)
        return Evaluation((50.0,) * len(places), (False,) * len(places), said)


@pytest.mark.parametrize("fidelity", [None, FIDELITY])
def test_a_raced_candidate_is_silent_only_if_all_its_answers_are_empty(fidelity: Fidelity | None):
    """Whatever the blocks are in which it was asked."""
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.4)]
    blocks = RaceSettings(first=2, most=1.0, random=1.0)
    for until, silent in ((ITEMS, True), (ITEMS - 1, False)):
        answers = SilentAtFirst(until)
        found = Racer(answers, ITEMS, blocks, 0, fidelity)(0, recipes, None)
        assert len(answers.asked) > 2, "asked in several blocks"
        assert [one == "CandidateFault: every answer is empty" for one in found] == [silent, silent]


@pytest.mark.parametrize("fidelity", [None, FIDELITY])
def test_a_race_over_pictures_asks_all_questions_of_a_picture_at_once(fidelity: Fidelity | None):
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.4, 0.6, 0.8)]
    pictures = [place // 4 for place in range(ITEMS)]
    answers = Answers()
    blocks = RaceSettings(first=1, most=1.0, random=1.0)
    found = Racer(answers, ITEMS, blocks, 0, fidelity, pictures)(0, recipes, recipes[0])
    for question in answers.asked:
        whole = {place // 4 for place in question.places or ()}
        assert sorted(question.places or ()) == [4 * one + more for one in sorted(whole) for more in range(4)]
    kept = [one for one in found if not isinstance(one, str)]
    assert len(kept) == 5
    assert all(len(one.seen) == len(one.scores) and len(one.seen) % 4 == 0 for one in kept)
    assert [one.score for one in kept[:4]] == pytest.approx([20, 40, 60, 80], abs=15)


def test_a_picture_is_one_observation_however_many_questions_it_has():
    """Two pictures of eight equal questions each decide as little as two questions."""
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.4, 0.6, 0.8)]
    blocks = RaceSettings(first=2, most=1.0, random=1.0, level=0.05)
    seen = {}
    for pictures in ((), [place // 2 for place in range(ITEMS)]):
        found = Racer(Answers(), ITEMS, blocks, 0, None, pictures)(0, recipes, None)
        seen[bool(pictures)] = [len(one.seen) for one in found if not isinstance(one, str)]
    assert max(seen[True]) == 2 * max(seen[False]), seen


def test_the_better_half_is_asked_in_full_and_the_rest_is_moved_by_what_that_changed():
    answers = Answers()
    found = [one for one in raced(answers, 1, 0.2, 0.8, 0.4, 0.6) if not isinstance(one, str)]
    assert [one.promoted for one in found] == [False, True, False, True]
    assert [one.score for one in found] == pytest.approx([20, 80, 40, 60])
    assert [one.cheap for one in found] == pytest.approx([0, 60, 20, 40])
    assert [question.cheap for question in answers.asked] == [True] * 4 + [False] * 2


def test_every_so_often_a_generation_is_asked_in_full_whole():
    for generation, full in ((0, 4), (1, 2), (2, 2), (3, 4)):
        answers = Answers()
        raced(answers, generation, 0.2, 0.8, 0.4, 0.6)
        assert sum(not question.cheap for question in answers.asked) == full


def test_a_candidate_that_fails_is_not_promoted_and_keeps_its_reason():
    found = raced(Answers(), 1, 0.2, 0.99, 0.4, 0.6)
    assert found[1] == "FloatingPointError: the logits are not finite"
    assert [isinstance(one, str) or one.promoted for one in found][2:] == [True, True]


def test_one_candidate_at_least_is_promoted():
    few = FIDELITY.model_copy(update={"promote": 0.1})
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.8, 0.4, 0.6)]
    found = Racer(Answers(), ITEMS, whole_race(ITEMS), 0, few)(1, recipes, None)
    assert [not isinstance(one, str) and one.promoted for one in found] == [False, True, False, False]


@pytest.mark.parametrize(("fidelity", "race"), [(None, RaceSettings(first=4, most=1.0)), (FIDELITY, whole_race(ITEMS))])
def test_how_much_of_a_generation_is_asked_is_told_and_never_more_than_all(
    fidelity: Fidelity | None, race: RaceSettings
):
    told: list[tuple[int, int, int, int]] = []
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.8, 0.4, 0.6)]
    racer = Racer(Answers(), ITEMS, race, 0, fidelity, on_answers=lambda *figures: told.append(figures))
    for generation in range(2):
        racer(generation, recipes, recipes[0])
    for generation in range(2):
        steps, done, most = zip(*(row[1:] for row in told if row[0] == generation), strict=True)
        assert set(steps) == {5}, "four candidates and the center"
        assert len(set(most)) == 1
        assert list(done) == sorted(set(done))
        assert 0 < done[0] <= done[-1] <= most[0]
        # Without a race, all that may be asked is asked.
        assert fidelity is None or done[-1] == most[0]


def test_scores_are_corrected_for_which_items_were_seen_shrunk_towards_no_correction():
    """By hand: an item's mean counts as if two answers of the overall mean stood beside what was answered."""
    items = 40
    hard = np.random.default_rng(7).normal(0, 30, items)
    table = np.full((0, items), np.nan)
    asked: list[tuple[int, ...]] = []

    def answer(questions: Sequence[Question], progress: Progress | None = None) -> list[Evaluation | str]:
        nonlocal table
        asked.extend(question.places or () for question in questions)
        rows = []
        for question in questions:
            places = list(question.places or ())
            row = np.full((1, items), np.nan)
            row[0, places] = 50 + hard[places]
            table = np.concatenate([table, row])
            scores = tuple(row[0, places])
            rows.append(Evaluation(scores, (False,) * len(places), ("x",) * len(places)))
        return list(rows)

    racer = Racer(answer, items, RaceSettings(first=16, most=0.4, random=1.0), 0)
    recipes = [express(RECIPE, GENES, (weight, 0.5)) for weight in (0.2, 0.8)]
    racer(0, recipes, None)
    (outcome, _) = racer(1, recipes, None)
    assert not isinstance(outcome, str)
    seen = ~np.isnan(table)
    overall = table[seen].mean()
    means = [(table[seen[:, i], i].sum() + 2 * overall) / (seen[:, i].sum() + 2) for i in range(items)]
    order = list(asked[-1])
    assert set(order) != set(asked[0])
    expected = (50 + hard[order]).mean() + np.mean(means) - np.mean([means[item] for item in order])
    assert outcome.score == pytest.approx(expected)


AUTO = Fidelity(new_tokens=4, promote=0.5, audit=2, auto=True)


class Misleading(Answers):
    """Cheap answers that rank candidates the other way round, after `sound` generations of 8."""

    def __init__(self, sound: int = 0) -> None:
        super().__init__()
        self._candidates: list[str] = []
        self._sound = sound

    def _one(self, question: Question) -> Evaluation | str:
        if question.cheap and question.recipe.digest() not in self._candidates:
            self._candidates.append(question.recipe.digest())
        found = super()._one(question)
        place = self._candidates.index(question.recipe.digest()) if question.cheap else 0
        if isinstance(found, str) or place < 8 * self._sound:
            return found
        return replace(found, scores=tuple(-score for score in found.scores)) if question.cheap else found


def auto_generations(
    answers: Answers, count: int, settings: RaceSettings | None = None
) -> tuple[Racer, list[list[bool]]]:
    """The racer after generations of 8, and of each question of each generation whether it was cheap."""
    racer = Racer(answers, ITEMS, settings or whole_race(ITEMS), 0, AUTO)
    found = []
    for generation in range(count):
        answers.asked.clear()
        weights = [0.1 + 0.1 * place + 0.01 * generation for place in range(8)]
        racer(generation, [express(RECIPE, GENES, (weight, 0.5)) for weight in weights], None)
        found.append([question.cheap for question in answers.asked])
    return racer, found


def test_auto_goes_on_cheaply_while_audits_find_that_cheap_answers_rank_alike():
    racer, asked = auto_generations(Answers(), 3)
    assert asked == [[True] * 8 + [False] * 8, [True] * 8 + [False] * 4, [True] * 8 + [False] * 8]
    assert racer.cheap_first
    assert racer.audit is not None
    assert (racer.audit.tau, racer.audit.place, racer.audit.promoted) == (pytest.approx(1.0), 1, 4)


def test_auto_answers_in_full_from_the_first_audit_on_that_finds_otherwise():
    racer, asked = auto_generations(Misleading(), 3)
    assert asked == [[True] * 8 + [False] * 8, [False] * 8, [False] * 8]
    assert not racer.cheap_first
    assert racer.audit is None, "no generation of cheap answers, no audit"


def test_a_later_audit_ends_cheap_answers_too():
    _, asked = auto_generations(Misleading(sound=2), 4)
    assert asked == [[True] * 8 + [False] * 8, [True] * 8 + [False] * 4, [True] * 8 + [False] * 8, [False] * 8]


def test_a_bad_audit_forgets_the_cheap_scores_by_which_items_were_chosen():
    racer, asked = auto_generations(Misleading(), 2, RaceSettings(first=4, most=1.0, random=1.0))
    assert True in asked[0]
    assert True not in asked[1]
    assert len(racer._known) == 16, "full scores of both generations"
    assert np.nanmin(racer._known) == pytest.approx(100 * 0.1 + HARD[0])


def test_without_auto_a_bad_audit_changes_nothing():
    racer = Racer(Misleading(), ITEMS, whole_race(ITEMS), 0, FIDELITY)
    racer(0, [express(RECIPE, GENES, (0.1 + 0.1 * place, 0.5)) for place in range(8)], None)
    assert racer.audit is not None
    assert not racer.audit.good
    assert racer.cheap_first


@pytest.mark.parametrize(("noise", "then"), [(1.0, True), (60.0, False)])
@pytest.mark.parametrize("race", [None, RaceSettings(first=4, most=1.0, random=1.0)])
def test_a_restart_decides_the_same_and_tells_it_once(
    tmp_path: Path, noise: float, then: bool, race: RaceSettings | None
):
    told: list[str] = []
    whole = auto_study(tmp_path / "whole", noise, race, 40, told)
    for trials in (3, 9, 17, 40):
        cut = auto_study(tmp_path / "cut", noise, race, trials, [])
    assert cut.trials == whole.trials
    audits = []
    for folder in ("whole", "cut"):
        events = [json.loads(line) for line in (tmp_path / folder / "events.jsonl").read_text().splitlines()]
        audits.append([{**event, "time": ""} for event in events if event["event"] == "audit"])
    assert audits[0] == audits[1]
    assert [event["told"] for event in audits[0]] == told
    assert [event["cheap_first"] for event in audits[0]] == ([True] * len(audits[0]) if then else [False])
    assert len(told) == (3 if then else 1)
    assert any(not trial.promoted for trial in whole.trials) == then
    assert ("cheap answers come first" if then else "answered in full from now on") in told[0]


def auto_study(folder: Path, noise: float, race: RaceSettings | None, trials: int, told: list[str]) -> Study:
    assert RECIPE.search is not None
    recipe = RECIPE.model_copy(update={"search": RECIPE.search.model_copy(update={"fidelity": AUTO})})
    header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": list(map(str, range(ITEMS)))}, "versions": {}}
    study = Study.open(folder, recipe, GENES, header, tell=told.append)
    searcher = make_searcher("cmaes", SearchSettings(2, 8, 0.4, 0.1, 0))
    search_raced(study, searcher, Answers(noise), ITEMS, race, trials, lambda trial: None)
    return study


def study_in(folder: Path, trials: int) -> Study:
    header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": list(map(str, range(ITEMS)))}, "versions": {}}
    study = Study.open(folder, RECIPE, GENES, header)
    searcher = make_searcher("cmaes", SearchSettings(2, 6, 0.4, 0.1, 0))
    search_raced(study, searcher, Answers(noise=3.0), ITEMS, None, trials, lambda trial: None)
    return study


def test_the_log_tells_who_was_promoted_and_how_well_cheap_answers_ranked(tmp_path: Path):
    study = study_in(tmp_path, 24)
    promoted = [sum(trial.promoted for trial in study.trials if trial.generation == n) for n in range(4)]
    assert promoted == [6, 3, 3, 6]
    assert all(trial.cheap is not None for trial in study.trials)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "rank agreement"]
    assert [event["generation"] for event in told] == [0, 3]
    assert all(0 < event["tau"] <= 1 and event["candidates"] == 6 for event in told)
    assert study.best().promoted
    assert all(trial.promoted for trial in study.finalists(24))


def test_a_restart_goes_on_with_the_same_log(tmp_path: Path):
    whole = study_in(tmp_path / "whole", 20)
    study_in(tmp_path / "cut", 9)
    cut = study_in(tmp_path / "cut", 20)
    assert cut.trials == whole.trials
    events = [json.loads(line)["event"] for line in (tmp_path / "cut" / "events.jsonl").read_text().splitlines()]
    assert events.count("rank agreement") == 2


def test_a_cheaper_task_takes_never_more_effort_than_its_own():
    class Paper:
        name = "paper"
        generation = Generation("{question}", max_new_tokens=32, num_beams=5)

    cheap = Cheaper(Paper(), Fidelity(base_tile=True, beams=1, new_tokens=64))  # type: ignore[arg-type]
    assert not cheap.generation.eight_bit
    assert Cheaper(Paper(), Fidelity(eight_bit=True)).generation.eight_bit  # type: ignore[arg-type]
    assert (cheap.generation.num_beams, cheap.generation.max_new_tokens, cheap.generation.base_tile) == (1, 32, True)
    task = load_task("zoo-maths")
    assert Cheaper(task, Fidelity(beams=3)).generation == task.generation


def test_a_fidelity_that_saves_nothing_or_serves_several_objectives_is_refused():
    with pytest.raises(ValidationError, match="nothing makes it cheaper"):
        Fidelity(promote=0.25)
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    assert recipe.search is not None
    search = recipe.search.model_copy(update={"fidelity": FIDELITY, "objectives": ("layers",), "algorithm": "nsga2"})
    several = recipe.model_copy(update={"search": search})
    with pytest.raises(RecipeError, match=r"search\.fidelity: works with one score only"):
        plan_evolution(several, RECIPES, EvolveSettings(trials=2, items=4, judged=2))
