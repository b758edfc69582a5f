"""What a search will take: time by phase, memory and disk, from the pace of single steps.

Knows plans and numbers; loads no models. `measure` finds the pace on this machine, `past_runs` has that of others.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from evovlm.evolution._controls import TSV_ROW, choosing, prepared_by, rows_beside, why_no_tsv
from evovlm.evolution._unmerged import restyles
from evovlm.evolution.plan import EvolveSettings, Plan
from evovlm.evolution.selection import FINALISTS
from evovlm.merging.assembly import with_recipe
from evovlm.merging.build import output_bytes
from evovlm.merging.prepare import making_bytes, vector_bytes
from evovlm.methods import METHODS, find_method
from evovlm.recipe.schema import Recipe
from evovlm.search.space.ablations import rivals_of
from evovlm.search.space.parameters import search_of
from evovlm.system.units import duration_range, size
from evovlm.tasks.item_sets import ITEMS

# Bytes of a study's files: per trial besides its genome, per gene, per answer besides its text (in the cache, and in
# the held-out log), and of the report with plotly's script and the pictures. Counted on studies of the zoo.
TRIAL, GENE, CACHED, HELD_OUT, PAGE = 450, 22, 150, 300, 6 * 10**6
CHARACTER = 3  # bytes of a Japanese character
FINISHING = 3.0  # seconds for intervals, pictures and report
WRITING = 300e6  # bytes per second of an ordinary disk
CELLS = 30  # of an atlas; searches fill a third of its 100
USUAL = 7.0  # billions of parameters of a model whose name says nothing
# A search may take so many times as long as foretold, or as short, even if all measured steps were equally fast:
# other candidates answer at other lengths, and other work comes and goes.
LEAST_SPREAD = 1.3
MOST_CROWDED = 2.5  # the most that it was found to change
# Bytes of all models in memory up to which a dry run loads them to measure if no option decides.
SMALL = 3 * 10**9
ROUTED_SPREAD = 1.6  # the same for routes, whose own layers and length nobody has measured yet


@dataclass(frozen=True)
class Pace:
    """What single steps take: seconds, and bytes of memory (`gpu` 0: none is used).

    start: from the start of the program to the loaded model, with the first merge. prepare: a question's tokens and
    picture features. merge: a candidate. answers: (questions, seconds) of some candidates, ascending. load: one model
    more. build: a checkpoint. vectors: preparing all task vectors. length: mean characters of an answer. whence: where
    these numbers come from, a sentence. spread: how many times longer or shorter all of it may take.
    """

    start: float
    prepare: float
    merge: float
    answers: tuple[tuple[int, float], ...]
    load: float
    build: float
    length: float
    host: int
    gpu: int
    whence: str
    spread: float
    vectors: float = 0.0

    def answering(self, questions: int) -> float:
        """Seconds in which one candidate answers so many questions."""
        return on_line(self.answers, questions)


def on_line(measured: Sequence[tuple[int, float]], questions: int) -> float:
    """Seconds for so many questions: between and beyond the measured (questions, seconds), ascending, on a line."""
    below = [pair for pair in measured if pair[0] <= questions]
    if not below:
        count, seconds = measured[0]
        return seconds * questions / count
    if len(measured) == 1:
        return below[0][1] * questions / below[0][0]
    place = min(len(below), len(measured) - 1)
    (few, short), (many, long) = measured[place - 1], measured[place]
    slope = max(0.0, long - short) / (many - few)
    return max(short, short + slope * (questions - few))


@dataclass(frozen=True)
class Part:
    """A phase: `count` candidates or models answer `questions` each. `loads`: whether each is loaded, not merged."""

    name: str
    count: int
    questions: int
    loads: bool = False
    at_once: int = 1  # workers

    def seconds(self, pace: Pace) -> float:
        """How long it takes at a pace."""
        own = pace.load + self.questions * pace.prepare if self.loads else pace.merge
        return math.ceil(self.count / self.at_once) * (own + pace.answering(self.questions))

    @property
    def work(self) -> str:
        """What is done, in words."""
        kind = "models" if self.loads else "candidates"
        return f"{self.count} {kind} x {self.questions} questions"


@dataclass(frozen=True)
class Forecast:
    """Phases with what they do and their seconds; memory on host and GPU, and disk, in bytes.

    spread: how many times longer or shorter the phases may take.
    """

    phases: tuple[tuple[str, str, float], ...]
    host: int
    gpu: int
    disk: int
    whence: str
    spread: float

    @property
    def seconds(self) -> float:
        """The whole time."""
        return math.fsum(seconds for _, _, seconds in self.phases)

    def in_words(self, seconds: float | None = None) -> str:
        """The range of a phase's time in words; None: of the whole."""
        middle = self.seconds if seconds is None else seconds
        return duration_range(middle / self.spread, middle * self.spread)


@dataclass(frozen=True)
class Scope:
    """How much a search does: trials left to do, questions per set, models, controls, and what else is asked for.

    choosing: candidates that controls are chosen from. beside: rows of the held-out table besides sources and winner.
    """

    trials: int
    search: int
    choice: int
    test: int
    models: int
    choosing: int
    beside: int
    genes: int = 0
    rivals: tuple[str, ...] = ()
    atlas: bool = False
    checkpoint: bool = False
    workers: int = 1
    remembered: bool = True  # whether answers are kept
    bytes_out: int = 0  # of the checkpoint
    bytes_model: int = 0  # of the largest model, as it is loaded
    bytes_vectors: int = 0  # of task vectors that are prepared, on disk
    bytes_making: int = 0  # of memory while those of the largest tensor are made
    prepared: tuple[str, ...] = ()  # the methods that prepare them
    no_tsv: str = ""  # why the held-out table has no TSV-M; empty if it has


def scope_of(plan: Plan, logged: int = 0, no_room: str = "") -> Scope:
    """The scope of a plan, of which `logged` trials are done. A race asks fewer questions than this says.

    no_room: why there is no disk for the task vectors of the TSV-M control; empty if there is.
    """
    sets, settings, assembly = plan.sets, plan.settings, plan.assembly
    models = [*assembly.sources.values(), *([assembly.base] if assembly.base is not None else [])]
    winner = first_candidate(plan)
    without = (TSV_ROW,) if no_room else ()
    prepared = prepared_by(winner, without)
    reworded = restyles(sets.test, sets.choice)
    return Scope(
        trials=max(0, plan.trials - logged),
        search=len(sets.search),
        choice=len(sets.choice),
        test=len(sets.test),
        models=len(models),
        choosing=choosing(winner, assembly, without) + len(models) * reworded,
        beside=rows_beside(winner, assembly, without),
        genes=len(plan.genes),
        bytes_out=output_bytes(assembly),
        bytes_model=max(model.bytes_on(settings.device) for model in models),
        remembered=not plan.recipe.timed,
        bytes_vectors=sum(vector_bytes(with_recipe(assembly, one)) for one in prepared),
        bytes_making=making_bytes(assembly) if prepared else 0,
        prepared=tuple(dict.fromkeys(one.method for one in prepared)),
        no_tsv=why_no_tsv(winner) or no_room,
        **_asked_for(plan.recipe, settings),
    )


def scope_of_absent(recipe: Recipe, settings: EvolveSettings) -> Scope:
    """The scope of a recipe whose models are not here: what it says, with `parameters` guessed from their names.

    Raises RecipeError for an unknown method.
    """
    find_method(recipe.method)
    search, parameters = search_of(recipe), parameters_by_name(recipe)
    width = 2 if settings.device.startswith("cuda") else 4
    prepared = [] if search.route is not None else prepared_by(recipe)
    return Scope(
        trials=settings.trials or search.trials,
        search=settings.items or search.items or ITEMS["validation"],
        choice=settings.judged or ITEMS["validation"],
        test=settings.judged or ITEMS["test"],
        models=len(recipe.sources) + (recipe.base is not None),
        # Without the models only the recipe's own numbers are known; a route has a row per source instead.
        choosing=0 if search.route is not None else choosing(recipe, None),
        beside=len(recipe.sources) if search.route is not None else rows_beside(recipe, None),
        bytes_out=int(parameters * 1e9 * 2),
        bytes_model=int(parameters * 1e9 * width),
        bytes_vectors=sum(int(parameters * 1e9 * 2 * _vectors(one)) for one in prepared),
        prepared=tuple(one.method for one in prepared),
        no_tsv=why_no_tsv(recipe) if search.route is None else "the search is for routes, and TSV-M merges tensors",
        **_asked_for(recipe, settings),
    )


def first_candidate(plan: Plan) -> Recipe:
    """A candidate of a plan's first generation."""
    return plan.express(plan.recipe, plan.genes, plan.searcher().ask()[0])


def _vectors(recipe: Recipe) -> int:
    """How many vectors per tensor its method keeps."""
    return 1 if METHODS[recipe.method].one_vector else len(recipe.sources)


def parameters_by_name(recipe: Recipe) -> float:
    """The largest number of billions that a model's name says (`7B`), and `USUAL` if none does."""
    names = [source.model for source in recipe.sources] + ([recipe.base.model] if recipe.base is not None else [])
    found = [float(number) for name in names for number in re.findall(r"(\d+(?:\.\d+)?)[bB](?![a-zA-Z])", name)]
    return max(found, default=USUAL)


def _asked_for(recipe: Recipe, settings: EvolveSettings) -> dict[str, Any]:
    workers = settings.workers
    return {
        "rivals": tuple(rivals_of(recipe)) if settings.rivals else (),
        "atlas": settings.keep_diverse,
        "checkpoint": settings.checkpoint,
        "workers": 1 if workers is None else workers.count or os.cpu_count() or 1,
    }


def parts_of(scope: Scope) -> list[Part]:
    """The phases in which models are asked, in order."""
    finalists = min(FINALISTS, scope.trials) or FINALISTS
    parts = [Part("search", scope.trials, scope.search, at_once=scope.workers), Part("choice", finalists, scope.choice)]
    if scope.atlas:
        parts.append(Part("atlas", min(scope.trials, CELLS), scope.choice))
    parts.append(Part("controls", scope.choosing, scope.choice))
    for name in scope.rivals:
        title = name.replace("_", " ")
        parts += [Part(title, scope.trials, scope.search), Part(f"choice of {title}", finalists, scope.choice)]
    parts.append(Part("held out, sources", scope.models, scope.test, loads=True))
    parts.append(Part("held out, merges", 1 + scope.beside + len(scope.rivals), scope.test))
    return [part for part in parts if part.count]


def forecast(scope: Scope, pace: Pace) -> Forecast:
    """What a search takes at a pace."""
    parts = parts_of(scope)
    asked = scope.search + scope.choice + 2 * scope.test  # the test items once more for the control with other images
    phases = [("start", "load models, prepare questions", pace.start + asked * pace.prepare)]
    if scope.prepared:
        work = f"those of {' and '.join(scope.prepared)}: prepare, write {size(scope.bytes_vectors)}"
        phases.append(("task vectors", work, pace.vectors + scope.bytes_vectors / WRITING))
    phases += [(part.name, part.work, part.seconds(pace)) for part in parts]
    if scope.checkpoint:
        phases.append(("checkpoint", "merge and write", pace.build + scope.bytes_out / WRITING))
    phases.append(("end", "intervals, pictures, report", FINISHING))
    # The sources of the held-out table are loaded beside the resident model; the control's vectors are made beside it.
    beside = max(scope.bytes_model, scope.bytes_making)
    return Forecast(
        tuple(phases),
        host=pace.host + (0 if pace.gpu else beside),
        gpu=pace.gpu + beside if pace.gpu else 0,
        disk=_disk(scope, parts, pace.length) + (scope.bytes_out if scope.checkpoint else 0),
        whence=pace.whence,
        spread=pace.spread,
    )


def means_of(steps: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Mean seconds of measured steps, (questions, seconds), by their number of questions, ascending."""
    counts = sorted({questions for questions, _ in steps})
    return tuple((count, fmean(seconds for questions, seconds in steps if questions == count)) for count in counts)


def spread_of(steps: Sequence[tuple[int, float]], crowded: float) -> float:
    """The spread of measured steps, (questions, seconds): the slowest by the fastest with as many questions.

    crowded: processes per core during the measurement. Other work may end, or more begin; at most `MOST_CROWDED`.
    """
    by_count: dict[int, list[float]] = {}
    for questions, seconds in steps:
        by_count.setdefault(questions, []).append(seconds)
    ratios = [max(times) / min(times) for times in by_count.values() if min(times) > 0]
    return max([LEAST_SPREAD, min(crowded, MOST_CROWDED), *ratios])


def crowded_in_words(crowded: float) -> str:
    """What else to say of a measurement with so many processes per core; empty if other work hardly disturbed it."""
    return f", while {crowded:.1f} processes shared each core" if crowded > LEAST_SPREAD else ""


def pace_of_routes(pace: Pace, plan: Plan) -> Pace:
    """The pace of a search of routes, from that of one which merges the same models.

    A route needs no merge, and as much longer for an answer as it has more steps than the owner has layers: the mean
    of the first generation. All sources stay loaded.
    """
    assert plan.space is not None
    routes = [plan.space.route(genome) for genome in plan.searcher().ask()]
    steps = math.fsum(len(route) for route in routes) / len(routes)
    owned = sum(source == plan.space.owner for source, _ in plan.space.layers)
    models = plan.assembly.sources.values()
    device = plan.settings.device
    more = sum(model.bytes_on(device) for model in models) - max(model.bytes_on(device) for model in models)
    return replace(
        pace,
        start=pace.load * len(models),
        merge=0.0,
        vectors=0.0,
        answers=tuple((count, seconds * steps / owned) for count, seconds in pace.answers),
        host=pace.host + (0 if pace.gpu else more),
        gpu=pace.gpu + more if pace.gpu else 0,
        whence=f"routes of {steps:.0f} steps on average were estimated from merges of {owned} layers",
        spread=max(pace.spread, ROUTED_SPREAD),
    )


def forecast_stages(first: Plan, second: Plan, pace: Pace, logged: tuple[int, int], no_room: str = "") -> Forecast:
    """What both stages of a search take at a pace of merges. `logged`: trials of each that are done.

    no_room: of the first stage, as in `scope_of`.
    """
    winners = len(set(second.recipe.source_names) - set(first.recipe.source_names))
    scope = scope_of(first, logged[0], no_room)
    early = forecast(scope, pace)
    late = forecast(scope_of(second, logged[1]), pace_of_routes(pace, second))
    built = winners * (pace.build + scope.bytes_out / WRITING)
    return Forecast(
        phases=(
            *early.phases,
            ("pool", f"merge and write {winners} of the best", built),
            *((f"then: {name}", work, seconds) for name, work, seconds in late.phases),
        ),
        host=max(early.host, late.host),
        gpu=max(early.gpu, late.gpu),
        disk=early.disk + winners * scope.bytes_out + late.disk,
        whence=f"{early.whence}; {late.whence}",
        spread=late.spread,
    )


def _disk(scope: Scope, parts: Sequence[Part], length: float) -> int:
    """Bytes of a study's logs, cache and report."""
    text = CHARACTER * length
    kept = sum(part.count * part.questions for part in parts if not part.loads) if scope.remembered else 0
    judged = sum(part.count * part.questions for part in parts if part.name.startswith("held out"))
    trials = scope.trials * (1 + len(scope.rivals)) * (TRIAL + GENE * scope.genes)
    answers = kept * (CACHED + text) + judged * (HELD_OUT + text)
    return int(PAGE + trials + answers) + scope.bytes_vectors
