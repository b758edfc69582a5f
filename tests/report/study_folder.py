"""A study's folder as `evovlm evolve` leaves it, small and written by hand."""

import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import write_recipe

SOURCES = ("vlm", "ja")
GROUPS = ("embeddings", "layers 0-1", "layers 2-3", "head")
GENES = [f"{source}.{name}.{group}" for source in SOURCES for name in ("weight", "density") for group in GROUPS]
RECIPE: dict[str, Any] = {
    "kind": "vlm",
    "base": {"model": "zoo:base"},
    "sources": [{"name": name, "model": f"zoo:{name}"} for name in SOURCES],
    "owner": "vlm",
    "method": "dare_ties",
    "groups": 2,
    "search": {"weight": [0.0, 1.5], "density": [0.3, 1.0], "trials": 40},
    "data": {"search": "zoo-vqa:search", "validation": "zoo-vqa:validation", "test": "zoo-vqa:test"},
}
POPULATION = 8
FAILED = 5
QUESTIONS = ("赤い四角の左にあるものは何ですか？", "丸はいくつありますか？", "三角は何色ですか？<b>")
ANSWERS = ("青い丸です。", "二つあります。", "黄色です。")


def make_study(folder: Path, *, trials: int = 40, finished: bool = True) -> Path:
    """Write a study with `trials` trials; `finished` adds the winner's held-out result."""
    folder.mkdir(parents=True)
    recipe = Recipe.model_validate(RECIPE)
    write_json(folder / "study.json", header(recipe))
    rows = [trial(number, recipe) for number in range(trials)]
    write_rows(folder / "trials.jsonl", rows)
    write_rows(folder / "events.jsonl", [{"time": "2026-11-24T05:00:00+00:00", "event": "started"}])
    if any(row["score"] is not None for row in rows):
        best = max((row for row in rows if row["score"] is not None), key=lambda row: row["score"])
        write_recipe(recipe.model_copy(update={"parameters": parameters(best["genome"])}), folder / "best.yaml")
        write_rows(folder / "answers.jsonl", progress(rows))
    if finished:
        write_json(folder / "result.json", result(recipe))
        write_rows(folder / "heldout_answers.jsonl", held_out_answers())
        (folder / "images").mkdir()
        for number, colour in enumerate(("crimson", "royalblue", "gold")):
            picture = Image.new("RGB", (96, 96), "white")
            ImageDraw.Draw(picture).ellipse((20, 20 + number * 8, 60, 60 + number * 8), fill=colour)
            picture.save(folder / "images" / f"test-{number}.png")
    return folder


def header(recipe: Recipe) -> dict[str, Any]:
    content = recipe.model_dump(mode="json", by_alias=True)
    search = content["search"] | {"trials": None}
    return {
        "format": 1,
        "recipe": content | {"search": search},
        "digest": recipe.digest(),
        "genes": GENES,
        "search": search,
        "items": {"task": "zoo-vqa", "ids": [f"search-{number}" for number in range(16)]},
        "data": content["data"],
        "versions": {"evovlm": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "hardware": "a laptop, 2 cores",
    }


def trial(number: int, recipe: Recipe) -> dict[str, Any]:
    random_state = random.Random(number)
    failed = number == FAILED
    genome = [min(1.0, max(0.0, 0.5 + random_state.gauss(0, 0.12))) for _ in GENES]
    return {
        "trial": number,
        "generation": number // POPULATION,
        "genome": genome,
        "digest": f"{number:032x}",
        "score": None if failed else 62 - 30 * math.exp(-number / 14) + random_state.gauss(0, 1.5),
        "spread": None if failed else 1.6,
        "exact": None if failed else 0.3,
        "seconds": {} if failed else {"merge": 0.11, "answer": 0.82, "score": 0.05},
        "error": "FloatingPointError: lm_head.weight: the merged weights are not finite" if failed else None,
    }


def parameters(genome: list[float]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, point in zip(GENES, genome, strict=True):
        source, parameter, group = name.split(".")
        low, high = RECIPE["search"][parameter]
        values.setdefault(source, {}).setdefault(parameter, {})[group] = low + (high - low) * point
    return Recipe.model_validate(RECIPE | {"parameters": values}).parameters


def progress(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    best, kept = -math.inf, []
    for row in rows:
        if row["score"] is not None and row["score"] > best:
            best = row["score"]
            kept.append({"trial": row["trial"], "id": "search-0", "answer": f"答え{row['trial']}", "score": best})
    return kept


def cell(score: float, exact: float, difference: float) -> dict[str, Any]:
    return {
        "score": score,
        "exact": exact,
        "ci95": [score - 1.8, score + 1.9],
        "items": 600,
        "versus_evolved": {"mean": difference, "ci95": [difference - 2, difference + 2]},
    }


def result(recipe: Recipe) -> dict[str, Any]:
    return {
        "digest": recipe.digest(),
        "task": "zoo-vqa",
        "data": RECIPE["data"] | {"search_items": 16},
        "trials": 40,
        "selection": {"trial": 37, "search_score": 63.5, "choice_score": 60.25, "luck": 3.25, "items": 400},
        "held_out": {
            "sources": {"vlm": cell(21.5, 0.02, 38.6), "ja": cell(28.1, 0.05, 32.0)},
            "controls": {"average": cell(44.3, 0.2, 15.8), "sweep": cell(59.2, 0.28, 0.9)},
            "evolved": cell(60.1, 0.31, 0.0),
        },
        "seed": 0,
        "versions": {"evovlm": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "hardware": "a laptop, 2 cores",
        "seconds": 241.2,
    }


def held_out_answers() -> list[dict[str, Any]]:
    said = {"vlm": ("blue", "2", ""), "ja": ("わかりません。",) * 3, "sweep": ANSWERS, "evolved": ANSWERS}
    return [
        {
            "model": model,
            "key": model,
            "id": f"test-{number}",
            "question": QUESTIONS[number],
            "references": [ANSWERS[number]],
            "answer": answer,
            "score": 100.0 if answer == ANSWERS[number] else 0.0,
            "exact": answer == ANSWERS[number],
        }
        for model, answers in said.items()
        for number, answer in enumerate(answers)
    ]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
