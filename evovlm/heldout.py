"""The held-out table: sources, controls and the evolved model on items that no search has seen.

Knows an evaluator and recipes; no searchers. Each model's answers are stored when made, so that a killed run
goes on with the next model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evovlm import study_log
from evovlm.check.route import depth_of
from evovlm.engines.hf import Engine
from evovlm.evaluators.local import Evaluation, LocalEvaluator, OnHalved, answer_telling, score_answers
from evovlm.genome import uniform
from evovlm.metrics.statistics import Interval, bootstrap, paired_difference
from evovlm.recipe import Recipe
from evovlm.route import Route, identity
from evovlm.sources import OpenModel, open_model
from evovlm.tasks import Generation, Item, Options, Task, parse_split

SWEEP = tuple(step / 10 for step in range(11))
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Contestant:
    """A row of the table: `section` is sources, controls or evolved; `answer` does the work when asked."""

    name: str
    section: str
    evaluate: Callable[[], Evaluation]
    detail: Mapping[str, Any]


def contestants(
    evaluator: LocalEvaluator,
    winner: Recipe,
    test: Sequence[Item],
    choice: Sequence[Item],
    progress: Progress,
) -> list[Contestant]:
    """All rows for a winner. Sweeps choose their best point on the `choice` items, never on the test."""
    sources = [_source(evaluator, model, test) for model in _models(evaluator)]
    controls = _controls(evaluator, winner, test, choice, progress)
    evolved = Contestant("evolved", "evolved", lambda: evaluator.evaluate(winner, test), {"digest": winner.digest()})
    return [*sources, evolved, *controls]


def searched(evaluator: LocalEvaluator, name: str, winner: Recipe, test: Sequence[Item], *, trials: int) -> Contestant:
    """The row of another search's winner, a control of the evolved one."""
    detail = {"digest": winner.digest(), "trials": trials}
    return Contestant(name, "controls", lambda: evaluator.evaluate(winner, test), detail)


def judge(
    folder: Path, rows: Sequence[Contestant], items: Sequence[Item], *, seed: int, progress: Progress
) -> dict[str, Any]:
    """Evaluate every contestant and tabulate mean, exact share and 95 % bootstrap interval.

    Answers go to the study's `heldout_answers.jsonl`; rows already there (same model, same items) are not made
    again. `versus_evolved` is the paired difference evolved minus row with its interval.
    """
    path = folder / study_log.HELD_OUT_ANSWERS
    study_log.mend_tail(path)
    known = _stored(path, items)
    done: dict[str, Evaluation] = {}
    for row in rows:
        key = _key(row)
        if key not in known:
            progress(row.name)
            evaluation = row.evaluate()
            study_log.append_rows(path, _answer_rows(row, items, evaluation))
            known[key] = evaluation
        done[row.name] = known[key]
    table: dict[str, Any] = {"sources": {}, "controls": {}}
    for row in rows:
        cell = _cell(done[row.name], done["evolved"], seed) | dict(row.detail)
        if row.section == "evolved":
            table["evolved"] = cell
        else:
            table[row.section][row.name] = cell
    return table


def evaluate_model(
    model: str,
    data: str,
    count: int,
    *,
    seed: int,
    batch: int,
    device: str = "cpu",
    download: bool = False,
    preset: str | None = None,
) -> tuple[Interval, Evaluation]:
    """Score one model as it is on one split (`TASK:SPLIT`); a language model answers without the image."""
    task, split = parse_split(data, Options(preset=preset, download=download))
    opened, items = open_model(model, model, None, Path.cwd(), download=download), task.items(split, count, seed)
    dtype = torch.float32 if device == "cpu" else None
    found = _answer_as_is(opened, task, items, batch=batch, device=device, dtype=dtype)
    return bootstrap(found.scores, seed=seed), found


def without_image(items: Sequence[Item], generation: Generation) -> tuple[list[Item], Generation]:
    """The same questions for a model that cannot see: no image, and no place for one in the prompt."""
    template = generation.template.replace("<image>\n", "").replace("<image>", "")
    return [replace(item, image=None) for item in items], replace(generation, template=template)


def shuffled_images(items: Sequence[Item]) -> list[Item]:
    """Each question with another question's image: what an answer owes to seeing is lost."""
    half = len(items) // 2
    moved = [*items[half:], *items[:half]]
    return [
        replace(item, id=f"{item.id}#shuffled", image=other.image) for item, other in zip(items, moved, strict=True)
    ]


def _models(evaluator: LocalEvaluator) -> list[OpenModel]:
    base = evaluator.assembly.base
    return [*([base] if base is not None else []), *evaluator.assembly.sources.values()]


def _source(evaluator: LocalEvaluator, model: OpenModel, test: Sequence[Item]) -> Contestant:
    """A source as it is: the owner with its eyes, a language model without."""
    engine = evaluator.engine

    def answer() -> Evaluation:
        return _answer_as_is(
            model,
            evaluator.task,
            test,
            batch=evaluator.batch,
            device=engine.device,
            dtype=engine.dtype,
            on_halved=evaluator.on_halved,
        )

    return Contestant(model.label, "sources", answer, {"model": model.folder.name})


def _answer_as_is(
    model: OpenModel,
    task: Task,
    items: Sequence[Item],
    *,
    batch: int,
    device: str,
    dtype: torch.dtype | None,
    on_halved: OnHalved | None = None,
) -> Evaluation:
    engine = Engine.load(model.folder, device=device, dtype=dtype)
    asked, generation = list(items), task.generation
    if model.layout.kind == "llm":
        asked, generation = without_image(items, generation)
    return score_answers(task, items, answer_telling(engine, engine.prepare(asked, generation, batch), on_halved))


def _controls(
    evaluator: LocalEvaluator,
    winner: Recipe,
    test: Sequence[Item],
    choice: Sequence[Item],
    progress: Progress,
) -> list[Contestant]:
    if winner.route:
        return _route_controls(evaluator, winner, test)
    names = winner.source_names
    mean = _linear(winner, {name: 1 / len(names) for name in names})

    def row(name: str, recipe: Recipe, detail: Mapping[str, Any]) -> Contestant:
        return Contestant(name, "controls", lambda: evaluator.evaluate(recipe, test), detail)

    rows = [row("average", mean, {})]
    if winner.kind == "vlm":
        blind = [name for name in names if name != winner.owner]
        plugged = {name: _linear(winner, {other: float(other == name) for other in names}) for name in blind}
        best = _best_on(evaluator, plugged, choice, progress, "plugged in")
        rows.append(row("plugged_in", plugged[best], {"source": best}))
    if winner.base is not None:
        sums = {f"{w:.1f}": _vectors(winner, dict.fromkeys(names, w)) for w in SWEEP}
        best = _best_on(evaluator, sums, choice, progress, "sweep")
        rows.append(row("sweep", sums[best], {"weight": float(best), "of": "one weight for all task vectors"}))
    if winner.base is not None and winner.kind == "llm":
        single = {
            f"{name}:{w:.1f}": _vectors(winner, {other: w * (other == name) for other in names})
            for name in names
            for w in SWEEP
        }
        best = _best_on(evaluator, single, choice, progress, "single vector")
        rows.append(row("single_vector", single[best], {"source_and_weight": best}))
    if winner.kind == "vlm" and len(names) == 2:
        first, second = names
        mixes = {f"{w:.1f}": _linear(winner, {first: 1 - w, second: w}) for w in SWEEP}
        best = _best_on(evaluator, mixes, choice, progress, "interpolation")
        rows.append(row("interpolation", mixes[best], {"weight": float(best), "of": second}))
    if winner.kind == "vlm":
        moved = shuffled_images(test)
        detail = {"digest": winner.digest()}
        rows.append(Contestant("shuffled_images", "controls", lambda: evaluator.evaluate(winner, moved), detail))
    return rows


def _route_controls(evaluator: LocalEvaluator, winner: Recipe, test: Sequence[Item]) -> list[Contestant]:
    """The route without its scales; each other source's layers behind the owner's embeddings; images shuffled."""

    def row(name: str, route: Route, items: Sequence[Item], detail: Mapping[str, Any]) -> Contestant:
        recipe = winner.model_copy(update={"route": route})
        return Contestant(name, "controls", lambda: evaluator.evaluate(recipe, items), detail)

    rows = []
    if any(step.scale != 1.0 for step in winner.route):
        plain = tuple(step.model_copy(update={"scale": 1.0}) for step in winner.route)
        rows.append(row("without_scales", plain, test, {"digest": winner.digest()}))
    for name, model in evaluator.assembly.sources.items():
        if name != winner.owner:
            rows.append(row(f"layers_of_{name}", identity(name, depth_of(model)), test, {}))
    if winner.kind == "vlm":
        rows.append(row("shuffled_images", winner.route, shuffled_images(test), {"digest": winner.digest()}))
    return rows


def _best_on(
    evaluator: LocalEvaluator,
    recipes: Mapping[str, Recipe],
    items: Sequence[Item],
    progress: Progress,
    label: str,
) -> str:
    """The name of the recipe that scores best; a candidate that fails scores nothing."""
    if len(recipes) == 1:
        return next(iter(recipes))
    scores = {}
    for name, recipe in recipes.items():
        progress(f"{label} {name}")
        try:
            scores[name] = evaluator.evaluate(recipe, items).score
        except (ArithmeticError, ValueError):
            scores[name] = float("-inf")
    return max(scores, key=lambda name: scores[name])


def _linear(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).model_copy(update={"method": "linear", "groups": "whole"})


def _vectors(recipe: Recipe, weights: dict[str, float]) -> Recipe:
    return uniform(recipe, weights).model_copy(update={"method": "task_arithmetic", "groups": "whole"})


def _cell(evaluation: Evaluation, evolved: Evaluation, seed: int) -> dict[str, Any]:
    interval = bootstrap(evaluation.scores, seed=seed)
    difference = paired_difference(evolved.scores, evaluation.scores, seed=seed)
    return {
        "score": evaluation.score,
        "exact": evaluation.exact_share,
        "ci95": [interval.low, interval.high],
        "items": len(evaluation.scores),
        "versus_evolved": {"mean": difference.mean, "ci95": [difference.low, difference.high]},
    }


def _key(row: Contestant) -> str:
    """A model of the table by name and by what was made of it, so that another winner is another model."""
    return " ".join([row.name, *(f"{key}={value}" for key, value in sorted(row.detail.items()))])


def _answer_rows(row: Contestant, items: Sequence[Item], evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "model": row.name,
            "key": _key(row),
            "id": item.id,
            "question": item.question,
            "references": list(item.references),
            "answer": answer,
            "score": score,
            "exact": exact,
        }
        for item, answer, score, exact in zip(
            items, evaluation.answers, evaluation.scores, evaluation.exact, strict=True
        )
    ]


def _stored(path: Path, items: Sequence[Item]) -> dict[str, Evaluation]:
    """Complete evaluations of these items, by contestant key."""
    by_key: dict[str, dict[str, dict[str, Any]]] = {}
    for row in study_log.read_rows(path):
        by_key.setdefault(row["key"], {})[row["id"]] = row
    whole = {}
    for key, rows in by_key.items():
        if all(item.id in rows for item in items):
            mine = [rows[item.id] for item in items]
            whole[key] = Evaluation(
                scores=tuple(row["score"] for row in mine),
                exact=tuple(row["exact"] for row in mine),
                answers=tuple(row["answer"] for row in mine),
            )
    return whole
