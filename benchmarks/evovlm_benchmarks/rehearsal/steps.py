"""The steps of a rehearsal: what a user types, in the order in which a user types it.

Knows the command line and the folder's names; runs nothing. A new step is one row of `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evovlm.recipe.mergekit import write_mergekit
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import shipped_recipes
from evovlm_benchmarks.rehearsal.data import SEARCH, TEST
from evovlm_benchmarks.rehearsal.models import BASE, JA, MATHS, VLM
from evovlm_benchmarks.rehearsal.sizes import Size

RECIPE, SINGLE, WHOLE, PAIR, SUITE = "recipe.yaml", "single.yaml", "whole.yaml", "pair.yaml", "suite.yaml"
PAIRED = "pair-for-mergekit.yaml"
RECIPES = (RECIPE, SINGLE, WHOLE, PAIR, PAIRED, SUITE)
STUDY = "study"
NUMBERS = ("trials", "questions", "several", "judged", "few", "asked")
SEEING, WRITING = (BASE, VLM, JA), (BASE, JA, MATHS)


@dataclass(frozen=True)
class Step:
    """One command.

    words: after `evovlm`, with {device} and fields of `Size` in braces. reads: models that it reads; there are no
    others then, so that few lie on the disk at once. floor: which limit its seconds are compared with: `copy` (bytes
    read and written over the disk's rate), `candidates` (the study's own floors per candidate), or none. study: the
    folder of the study that it writes. removes: what is deleted when it has been measured. gpu: it is left out
    without a GPU. mergekit: the words are mergekit-yaml's, and it is left out if that is not given.
    """

    name: str
    words: str
    reads: tuple[str, ...] = ()
    floor: str = ""
    study: str = ""
    removes: tuple[str, ...] = ()
    gpu: bool = False
    mergekit: bool = False


SEARCH_WORDS = "--trials {trials} --device {device} --profile"
ONE = f"evolve {SINGLE} --items {{questions}} {SEARCH_WORDS} --judged {{judged}}"
SEVERAL = f"--items {{several}} {SEARCH_WORDS} --judged {{few}}"
ASK = "--items {asked} --device {device}"
ON_GPU = " --device {device}"
ALONE = "evolve, one question a picture"
STEPS: tuple[Step, ...] = (
    Step("merge, LLM pair, CPU", f"merge {PAIR} out-cpu", WRITING, "copy", removes=("out-cpu",)),
    Step("merge, LLM pair, GPU", f"merge {PAIR} out-gpu{ON_GPU}", WRITING, "copy", removes=("out-gpu",), gpu=True),
    Step(
        "merge, LLM pair, mergekit",
        f"{PAIRED} out-mk --no-write-model-card{{cuda}}",
        WRITING,
        "copy",
        removes=("out-mk",),
        mergekit=True,
    ),
    Step("suggest", f"suggest {JA} {MATHS} --base {BASE} --data zoo-maths:search {ASK}", WRITING),
    Step("check", f"recipe check {RECIPE}", SEEING),
    Step("merge, VLM, CPU", f"merge {RECIPE} out-cpu", SEEING, "copy", removes=("out-cpu",)),
    Step("merge, VLM, GPU", f"merge {RECIPE} out-gpu{ON_GPU}", SEEING, "copy", removes=("out-gpu",), gpu=True),
    Step("dry run", f"{ONE} --out dry --dry-run", SEEING),
    Step(ALONE, f"{ONE} --checkpoint --out {STUDY}", SEEING, "candidates", STUDY, (f"{STUDY}/checkpoint",)),
    Step(
        "evolve, several questions a picture",
        f"evolve {WHOLE} {SEVERAL} --out several",
        SEEING,
        "candidates",
        "several",
    ),
    Step("evolve, raced", f"evolve {RECIPE} {SEVERAL} --out raced", SEEING, "candidates", "raced"),
    Step("report", f"report {STUDY}"),
    Step("bench run", f"bench run {SUITE} {ASK} --preset greedy --out bench", SEEING),
)


def words_of(step: Step, size: Size, device: str) -> list[str]:
    """A step's command line after the program's name."""
    told = {name: getattr(size, name) for name in NUMBERS}
    return step.words.format(device=device, cuda=" --cuda" if device.startswith("cuda") else "", **told).split()


def write_recipes(folder: Path, size: Size) -> None:
    """Write the recipes and the suite that the steps name: the paper's, with these models, data and lengths."""
    paper = yaml.safe_load(shipped_recipes()["evovlm-jp"].read_text(encoding="utf-8"))
    models: Mapping[str, Callable[[dict[str, Any]], None]] = {
        RECIPE: _seeing, SINGLE: _single, WHOLE: _whole, PAIR: _writing,
    }  # fmt: skip
    for name, change in models.items():
        content = {**paper, "data": dict(paper["data"]), "groups": min(paper["groups"], size.tower.layers)}
        change(content)
        content["data"] |= {
            "search": f"ja-vg-vqa-search@{SEARCH}:search",
            "validation": f"ja-vg-vqa-search@{SEARCH}:validation",
            "test": f"ja-vg-vqa-500@{TEST}:test",
        }
        if name == PAIR:
            del content["data"]
        (folder / name).write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    paired = write_mergekit(Recipe.read(folder / PAIR))
    (folder / PAIRED).write_text(paired, encoding="utf-8")
    suite = {
        "models": [{"name": name, "model": name} for name in (VLM, JA)],
        "tasks": [{"task": f"ja-vg-vqa-500@{TEST}:test"}],
    }
    (folder / SUITE).write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")


def _seeing(content: dict[str, Any]) -> None:
    content["base"] = {"model": BASE}
    content["sources"] = [{"name": VLM, "model": VLM}, {"name": JA, "model": JA}]


def _whole(content: dict[str, Any]) -> None:
    """A search that asks every candidate all questions, in full."""
    _seeing(content)
    content["search"] = {key: one for key, one in content["search"].items() if key not in ("race", "fidelity")}


def _single(content: dict[str, Any]) -> None:
    """The same, with questions that are each about another picture."""
    _whole(content)
    content["data"]["whole_pictures"] = False


def _writing(content: dict[str, Any]) -> None:
    """A merge of two language models, with the paper's method."""
    content |= {"kind": "llm", "base": {"model": BASE}, "owner": JA}
    content["sources"] = [{"name": name, "model": name} for name in (JA, MATHS)]
    content["parameters"] = {name: {"weight": 0.5, "density": 0.5} for name in (JA, MATHS)}
