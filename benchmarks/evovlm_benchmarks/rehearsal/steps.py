"""The steps of a rehearsal: what a user types, in the order in which a user types it.

Knows the command line and the folder's names; runs nothing. A new step is one row of `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evovlm.recipe.shipped import shipped_recipes
from evovlm_benchmarks.rehearsal.data import SEARCH, TEST
from evovlm_benchmarks.rehearsal.models import BASE, JA, MATHS, VLM
from evovlm_benchmarks.rehearsal.sizes import Size

RECIPE, PAIR, SUITE = "recipe.yaml", "pair.yaml", "suite.yaml"
SEEING, WRITING = (BASE, VLM, JA), (BASE, JA, MATHS)


@dataclass(frozen=True)
class Step:
    """One command.

    words: after `evovlm`, with {device} and fields of `Size` in braces. reads: models that it reads; there are no
    others then, so that few lie on the disk at once. floor: which limit its seconds are compared with: `copy` (bytes
    read and written over the disk's rate), `candidates` (the study's own floors per candidate), or none. study: the
    folder of the study that it writes. removes: what is deleted when it has been measured. gpu: it is left out
    without a GPU.
    """

    name: str
    words: str
    reads: tuple[str, ...] = ()
    floor: str = ""
    study: str = ""
    removes: tuple[str, ...] = ()
    gpu: bool = False


SEARCH_WORDS = "--trials {trials} --device {device} --judged {judged} --profile"
EVOLVE = f"evolve {RECIPE} --items {{questions}} {SEARCH_WORDS} --out"
ASK = "--items {asked} --device {device}"
ON_GPU = " --device {device}"
STEPS: tuple[Step, ...] = (
    Step("merge, LLM pair, CPU", f"merge {PAIR} out-cpu", WRITING, "copy", removes=("out-cpu",)),
    Step("merge, LLM pair, GPU", f"merge {PAIR} out-gpu{ON_GPU}", WRITING, "copy", removes=("out-gpu",), gpu=True),
    Step("suggest", f"suggest {JA} {MATHS} --base {BASE} --data zoo-maths:search {ASK}", WRITING),
    Step("check", f"recipe check {RECIPE}", SEEING),
    Step("merge, VLM, CPU", f"merge {RECIPE} out-cpu", SEEING, "copy", removes=("out-cpu",)),
    Step("merge, VLM, GPU", f"merge {RECIPE} out-gpu{ON_GPU}", SEEING, "copy", removes=("out-gpu",), gpu=True),
    Step("dry run", f"{EVOLVE} dry --dry-run", SEEING),
    Step("evolve, checkpoint", f"{EVOLVE} study --checkpoint", SEEING, "candidates", "study", ("study/checkpoint",)),
    Step("evolve, raced", f"{EVOLVE} raced --race", SEEING, "candidates", "raced"),
    Step("report", "report study"),
    Step("bench run", f"bench run {SUITE} {ASK} --preset greedy --out bench", SEEING),
)


def words_of(step: Step, size: Size, device: str) -> list[str]:
    """A step's command line after `evovlm`."""
    told = {name: getattr(size, name) for name in ("trials", "questions", "judged", "asked")}
    return step.words.format(device=device, **told).split()


def write_recipes(folder: Path, size: Size) -> None:
    """Write the recipes and the suite that the steps name: the paper's, with these models, data and lengths."""
    paper = yaml.safe_load(shipped_recipes()["evovlm-jp"].read_text(encoding="utf-8"))
    models: Mapping[str, Callable[[dict[str, Any]], None]] = {RECIPE: _seeing, PAIR: _writing}
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
    suite = {
        "models": [{"name": name, "model": name} for name in (VLM, JA)],
        "tasks": [{"task": f"ja-vg-vqa-500@{TEST}:test"}],
    }
    (folder / SUITE).write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")


def _seeing(content: dict[str, Any]) -> None:
    content["base"] = {"model": BASE}
    content["sources"] = [{"name": VLM, "model": VLM}, {"name": JA, "model": JA}]


def _writing(content: dict[str, Any]) -> None:
    """A merge of two language models, with the paper's method."""
    content |= {"kind": "llm", "base": {"model": BASE}, "owner": JA}
    content["sources"] = [{"name": name, "model": name} for name in (JA, MATHS)]
    content["parameters"] = {name: {"weight": 0.5, "density": 0.5} for name in (JA, MATHS)}
