"""The registry of tasks: data sets, prompts and scores by name. Tasks know no models.

To add a task, write the function that builds it and add a row to `TASKS`, or decorate the function with `task` in a
module of your own (docs/extending.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from evovlm.recipe.where import split_where
from evovlm.system.errors import RecipeError
from evovlm.system.files import counted_from
from evovlm.system.plain_text import abridged
from evovlm.tasks import gsm8k_ja_search as gsm8k
from evovlm.tasks import in_the_wild as wild
from evovlm.tasks import ja_vg_vqa_500 as vg_test
from evovlm.tasks import ja_vg_vqa_search as vg_search
from evovlm.tasks import jcommonsenseqa as jcqa
from evovlm.tasks import mgsm_ja as mgsm
from evovlm.tasks._hub import HubSet, cached_commit
from evovlm.tasks._visual_genome import HUB as VISUAL_GENOME
from evovlm.tasks.custom import MATHS_PRESETS, VQA_PRESETS, custom_maths, custom_vqa
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Preset, Presets, preset_of
from evovlm.tasks.protocol import Generation, Item, ItemScore, Task
from evovlm.tasks.zoo_maths import zoo_maths
from evovlm.tasks.zoo_medium import zoo_medium_vqa, zoo_medium_wild
from evovlm.tasks.zoo_vqa import zoo_vqa

__all__ = [
    "TASKS",
    "Generation",
    "HubSet",
    "Item",
    "ItemScore",
    "Options",
    "Preset",
    "Task",
    "TaskRow",
    "cached_commit",
    "hub_set_of",
    "load_preset",
    "load_task",
    "parse_split",
    "presets_of",
    "register",
    "task",
]

Make = Callable[[Options], Task]


@dataclass(frozen=True)
class TaskRow:
    """One task: `make` builds it from a user's options; `presets` lists the default first (empty: takes no preset).

    `hub`: the data set that it reads from the hub, if any; `hub_beside_path`: also if a PATH is given.
    """

    make: Make
    presets: Presets = field(default_factory=dict)
    hub: HubSet | None = None
    hub_beside_path: bool = False


TASKS: dict[str, TaskRow] = {
    "zoo-maths": TaskRow(zoo_maths),
    "zoo-vqa": TaskRow(zoo_vqa),
    "zoo-medium-vqa": TaskRow(zoo_medium_vqa),
    "zoo-medium-wild": TaskRow(zoo_medium_wild),
    vg_test.NAME: TaskRow(vg_test.ja_vg_vqa_500, vg_test.PRESETS, VISUAL_GENOME),
    wild.NAME: TaskRow(wild.in_the_wild, wild.PRESETS, wild.HUB),
    vg_search.NAME: TaskRow(vg_search.ja_vg_vqa_search, vg_search.PRESETS, VISUAL_GENOME, hub_beside_path=True),
    mgsm.NAME: TaskRow(mgsm.mgsm_ja, mgsm.PRESETS, mgsm.HUB),
    gsm8k.NAME: TaskRow(gsm8k.gsm8k_ja_search, gsm8k.PRESETS, gsm8k.HUB),
    jcqa.NAME: TaskRow(jcqa.jcommonsenseqa, jcqa.PRESETS, jcqa.HUB),
    "custom-vqa": TaskRow(custom_vqa, VQA_PRESETS),
    "custom-maths": TaskRow(custom_maths, MATHS_PRESETS),
}


def register(name: str, row: TaskRow) -> None:
    """Add a task of your own, for use in recipes and suites. Raises ValueError if the name is taken."""
    if name in TASKS:
        raise ValueError(f"there is a task {name!r} already; choose another name than {sorted(TASKS)}")
    TASKS[name] = row


def task(name: str, presets: Presets | None = None, hub: HubSet | None = None) -> Callable[[Make], Make]:
    """Register the decorated function, which builds a task from `Options`, under a name.

    presets: the same ones that the function passes to `chosen_preset`, the default first. hub: the data set on the hub
    that it reads, so that recipes can pin its revision. Raises ValueError if the name is taken.
    """

    def add(make: Make) -> Make:
        register(name, TaskRow(make, presets or {}, hub))
        return make

    return add


def presets_of(name: str) -> list[str]:
    """The names of a task's presets, the default first; empty if the task has none or does not exist."""
    return list(TASKS[name].presets) if name in TASKS else []


def hub_set_of(where: str) -> HubSet | None:
    """The data set on the hub that `TASK:SPLIT` or `TASK@PATH:SPLIT` reads; None if there is none, or no such task."""
    name, path, _ = split_where(where)
    row = TASKS.get(name)
    return row.hub if row is not None and (path is None or row.hub_beside_path) else None


def load_preset(name: str, preset: str | None = None) -> Preset:
    """A task's preset by name; None gives the default. Raises DataError, listing the choices, if the name is unknown.

    Raises KeyError if the task itself is unknown.
    """
    return preset_of(name, TASKS[name].presets, preset)


def load_task(name: str, options: Options | None = None, *, key: str = "data") -> Task:
    """The task of that name. Raises RecipeError, listing the choices, if there is none; `key`: what it calls it."""
    if name not in TASKS:
        raise RecipeError(f"{key}: unknown task {abridged(name)!r}; choose from {sorted(TASKS)}")
    return TASKS[name].make(options or Options())


def parse_split(
    where: str, options: Options | None = None, root: Path | None = None, *, key: str = "data"
) -> tuple[Task, str]:
    """Task and split from `TASK:SPLIT`, or from `TASK@PATH:SPLIT` if the data is in a local file or folder.

    A relative path, also that of a preset's file, is resolved against `root` (default: the working directory). Raises
    RecipeError, listing the choices, for an unknown task or split; `key`: what it calls `where`.
    """
    name, path, split = split_where(where)
    chosen = replace(options or Options(), root=root)
    if path is not None:
        chosen = replace(chosen, path=counted_from(root or Path(), path))
    task = load_task(name, chosen, key=key)
    if split not in task.splits:
        what = f"has no split {abridged(split)!r}" if split else "needs a split"
        raise RecipeError(f"{key}: {name} {what}; choose from {list(task.splits)}, as {name}:test")
    return task, split
