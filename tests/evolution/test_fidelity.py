"""What a search's lower fidelity is here: what `auto` chooses, what is refused, and a search that uses it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.cached_pool import CachedPool, PooledAnswers
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.pool import Outcome
from evovlm.evaluators.question import LocalAnswers, Question
from evovlm.evaluators.remote import RemoteJudge
from evovlm.evolution import _fidelity
from evovlm.evolution._fidelity import settled
from evovlm.evolution.plan import Plan, plan_evolution
from evovlm.evolution.search_loop import asked_of, remote_job, search_raced
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Fidelity
from evovlm.recipe.yaml_file import parse_recipe, read_recipe, recipe_text, write_recipe
from evovlm.search import check_search
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.study.header import refuse_changes
from evovlm.study.study import Study
from evovlm.system.errors import RecipeError, StudyError
from tests.command import evovlm_here
from tests.evolution.small_studies import SMALL, Noting, evolve

AUTO = Fidelity.model_validate("auto")


def with_fidelity(place: Path, fidelity: Fidelity | None, **search: Any) -> Recipe:
    recipe = read_recipe(place / "one-stage.yaml")
    assert recipe.search is not None
    return recipe.model_copy(update={"search": recipe.search.model_copy(update={"fidelity": fidelity, **search})})


def plan_of(place: Path, fidelity: Fidelity, **search: Any) -> Plan:
    return plan_evolution(with_fidelity(place, fidelity, **search), place, SMALL)


def test_the_word_is_read_and_written(place: Path):
    text = (place / "one-stage.yaml").read_text().replace("  batch: 32", "  batch: 32\n  fidelity: auto")
    recipe = parse_recipe(text, Path("one.yaml"))
    assert recipe.search is not None
    assert recipe.search.fidelity == AUTO == Fidelity(auto=True, promote=0.25)
    again = parse_recipe(recipe_text(recipe), Path("again.yaml"))
    assert again.search == recipe.search
    with pytest.raises(RecipeError, match=r"one.yaml:23: search.fidelity: 'fast' is not known; give `auto`"):
        parse_recipe(text.replace("fidelity: auto", "fidelity: fast"), Path("one.yaml"))
    with pytest.raises(ValidationError, match="nothing makes it cheaper"):
        Fidelity(auto=False)


def chosen(plan: Plan, kind: str, model: str, device: str, **generation: Any) -> tuple[Fidelity | None, str]:
    """What `auto` means for a model of that `model_type` on a device."""
    owner = SimpleNamespace(config={"model_type": model})
    assembly: Any = SimpleNamespace(owner=owner, dtype=plan.assembly.dtype)
    task: Any = SimpleNamespace(generation=replace(plan.task.generation, **generation))
    search = plan.recipe.search
    assert search is not None
    recipe = plan.recipe.model_copy(
        update={"kind": kind, "search": search.model_copy(update={"fidelity": AUTO}), "owner": "ja"}
    )
    found, told = settled(recipe, assembly, task, device)
    assert found.search is not None
    return found.search.fidelity, told


def test_auto_takes_what_makes_answers_cheaper_here(place: Path, monkeypatch: pytest.MonkeyPatch):
    plan = plan_of(place, AUTO)
    monkeypatch.setattr(_fidelity, "has_float8", lambda device: True)
    tile, small = (AUTO.model_copy(update={way: True}) for way in ("base_tile", "eight_bit"))
    told = "search.fidelity: auto: cheap answers are by {}, as long as they rank well"
    assert chosen(plan, "vlm", "llava_next", "cuda") == (tile, told.format("the base tile alone"))
    assert chosen(plan, "vlm", "llava_next", "cpu")[0] == tile
    assert chosen(plan, "vlm", "llava_next", "cuda", num_beams=5)[0] == tile
    assert chosen(plan, "vlm", "llava_next", "cuda", base_tile=True)[0] == small
    assert chosen(plan, "vlm", "llava", "cuda:1") == (small, told.format("8-bit products"))
    assert chosen(plan, "llm", "llava_next", "cuda")[0] == small
    monkeypatch.setattr(_fidelity, "has_float8", lambda device: False)
    assert chosen(plan, "vlm", "llava_next", "cuda")[0] == tile
    nothing, told = chosen(plan, "llm", "mistral", "cuda")
    assert nothing is None
    assert told.endswith("and this GPU does not multiply 8-bit floats, which needs compute capability 8.9")


def test_auto_means_full_answers_where_nothing_is_cheaper_which_is_told_once(place: Path):
    told = "search.fidelity: auto: all answers are in full, because no picture has tiles here, and a CPU only emulates"
    first, again = Noting(), Noting()
    evolve(place, "auto", with_fidelity(place, AUTO), first)
    evolve(place, "auto", with_fidelity(place, AUTO), again, trials=5)
    assert [note for note in first.notes if note.startswith(told)] != []
    assert [note for note in again.notes if "fidelity" in note] == []
    assert all(trial.cheap is None for trial in study_log.read_trials(place / "auto"))


@pytest.mark.parametrize(
    ("fidelity", "says"),
    [
        (Fidelity(base_tile=True), "no answer is cheaper, so it saves nothing: no picture has tiles here; remove it"),
        (Fidelity(new_tokens=60_000), "no answer is cheaper, so it saves nothing: the preset's `max_new_tokens` is"),
        (Fidelity(beams=7), "no answer is cheaper, so it saves nothing: the preset's `num_beams` is 1 in any case"),
        (Fidelity(new_tokens=1, base_tile=True), "base_tile makes no answer cheaper: no picture has tiles here"),
        (Fidelity(new_tokens=1), ""),
    ],
)
def test_a_fidelity_that_makes_nothing_cheaper_is_told_by_search_and_check(place: Path, fidelity: Fidelity, says: str):
    assert plan_of(place, fidelity).fidelity.startswith(f"search.fidelity: {says}" if says else "")
    write_recipe(with_fidelity(place, fidelity), place / "mine.yaml")
    done = evovlm_here("recipe", "check", "mine.yaml", "--no-ask", "--json", folder=place)
    found = [one for one in json.loads(done.stdout)["findings"] if one["key"] == "search.fidelity"]
    assert [(one["level"], one["text"][: len(says)]) for one in found] == ([("warning", says)] if says else [])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_beams": 4}, r"search.fidelity.eight_bit: beams .* set `beams: 1` beside it"),
        ({"repetition_penalty": 1.1}, r"search.fidelity.eight_bit: .* choose another preset"),
    ],
)
def test_answers_that_have_no_8_bit_products_are_refused_before_models_are_loaded(
    place: Path, changes: dict[str, Any], why: str
):
    (place / "own.yaml").write_text("".join(f"{key}: {value}\n" for key, value in changes.items()))
    recipe = with_fidelity(place, Fidelity(eight_bit=True))
    assert recipe.data is not None
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"preset": "plain+own.yaml"})})
    with pytest.raises(RecipeError, match=why):
        plan_evolution(recipe, place, SMALL)


def test_a_cpu_emulates_8_bit_products_which_search_and_check_say(place: Path):
    plan = plan_of(place, Fidelity(eight_bit=True))
    assert plan.fidelity == (
        "search.fidelity.eight_bit: on a CPU 8-bit products are emulated, which saves no time; they are for a GPU"
    )
    assert plan.recipe.search is not None
    assert [(found.fatal, found.key) for found in check_search(plan.recipe.search)] == [(False, "fidelity.eight_bit")]


def test_a_search_with_8_bit_products_first_asks_each_item_twice_of_the_promoted_only(place: Path, asked: list[int]):
    """The first generation of 12 is an audit: all twelve are asked in both precisions; of the second, half are."""
    fidelity = Fidelity(eight_bit=True, promote=0.5)
    evolve(place, "small", with_fidelity(place, fidelity, population=4), trials=8, items=6)
    trials = study_log.read_trials(place / "small")
    assert [trial.promoted for trial in trials[:4]] == [True] * 4
    assert sum(trial.promoted for trial in trials[4:]) == 2
    assert asked[:14] == [6] * 14
    events = [json.loads(line) for line in (place / "small" / "events.jsonl").read_text().splitlines()]
    assert [event["generation"] for event in events if event["event"] == "rank agreement"] == [0]


def test_cheap_and_full_answers_are_cached_apart_and_prompts_prepared_once(place: Path, tmp_path: Path):
    plan = plan_of(place, Fidelity(eight_bit=True))
    evaluator = LocalEvaluator(plan.assembly, batch=8)
    answers = LocalAnswers(evaluator, plan.recipe, plan.search_items)
    (whole, cheap) = evaluator._sets.values()
    assert all(one is other for one, other in zip(whole.prompts, cheap.prompts, strict=True))
    assert (whole.generation.eight_bit, cheap.generation.eight_bit) == (False, True)
    assert evaluator.engine.lean is not None
    for question, eight in ((True, True), (False, False), (True, True)):
        assert not isinstance(answers([Question(plan.recipe, (0, 1), question)])[0], str)
        assert evaluator.engine.lean._eight_bit == eight


def test_a_model_without_8_bit_products_is_refused_unless_they_were_evovlms_choice(place: Path):
    for fidelity in (Fidelity(eight_bit=True), Fidelity(eight_bit=True, auto=True)):
        plan = plan_of(place, fidelity)
        evaluator = LocalEvaluator(plan.assembly, batch=8)
        evaluator.engine.lean = None
        told: list[str] = []
        if fidelity.auto:
            answers = LocalAnswers(evaluator, plan.recipe, plan.search_items, tell=told.append)
            assert answers._cheap.task.generation == plan.task.generation
            assert told[0].startswith("search.fidelity: auto: cheap answers do without 8-bit products: this model")
        with pytest.raises(RecipeError, match=r"search.fidelity.eight_bit: this model is answered by transformers'"):
            LocalAnswers(evaluator, plan.recipe, plan.search_items, tell=None if fidelity.auto else told.append)


def test_auto_says_what_its_audits_found_and_is_bound_to_what_it_chose(place: Path):
    watch = Noting()
    chosen = Fidelity(eight_bit=True, auto=True)
    evolve(place, "auto", with_fidelity(place, chosen, population=4), watch)
    (told,) = (note for note in watch.notes if note.startswith("generation 0: Kendall's tau of 4 candidates"))
    assert told.endswith(("cheap answers come first", "all candidates are answered in full from now on"))
    other = Fidelity(new_tokens=3, auto=True)
    with pytest.raises(StudyError, match=r"another `recipe\.search\.fidelity\.new_tokens` \(null; now 3\)"):
        refuse_changes(place / "auto", plan_of(place, other, population=4).header())


class Worker:
    """A pool of one worker, in this process. `judge` None: there is nobody, and who is given work is wrong."""

    size = 1

    def __init__(self, judge: RemoteJudge | None) -> None:
        self._judge = judge
        self._done: list[Outcome] = []

    def free(self) -> int:
        return 1 - len(self._done)

    def submit(self, ticket: int, work: Any) -> None:
        assert self._judge is not None, "an answer was to be generated again"
        self._done.append(Outcome(ticket, self._judge(work), "worker"))

    def wait(self) -> list[Outcome]:
        done, self._done = self._done, []
        return done


@pytest.mark.parametrize("race", [None, RaceSettings(first=2, most=1.0)])
def test_workers_decide_as_one_process_does_and_a_restart_asks_nobody(place: Path, race: RaceSettings | None):
    fidelity = Fidelity(eight_bit=True, auto=True, audit=1)
    plan = plan_of(place, fidelity, population=4)
    items = plan.search_items
    job = remote_job(plan.recipe, plan.assembly, items, "cpu", False)
    judge = job.open()
    found = []
    for folder, worker in (("here", None), ("there", Worker(judge)), ("there", Worker(None))):
        told: list[str] = []
        study = Study.open(
            place / folder, plan.recipe, plan.genes, plan.header(), plan.express, plan.assembly.root, told.append
        )
        cache = AnswerCache(place / folder / study_log.CACHE)
        if worker is None:
            answer: Any = LocalAnswers(LocalEvaluator(plan.assembly, batch=32, cache=cache), plan.recipe, items)
        else:
            answer = PooledAnswers(CachedPool(worker, cache, asked_of(plan.recipe, place, job.item_keys)))
        search_raced(study, plan.searcher(), answer, len(items), race, 9, lambda trial: None)
        found.append((study.trials, told, len(cache)))
        cache.close()
    (here, said, kept), (there, heard, _), (again, _, _) = found
    assert [trial.model_dump(exclude={"seconds"}) for trial in there] == [
        trial.model_dump(exclude={"seconds"}) for trial in here
    ]
    assert again == there
    assert heard == said
    assert found[1][2] == found[2][2] == kept
