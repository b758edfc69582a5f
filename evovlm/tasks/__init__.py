"""Tasks by name: data sets, prompts and scores. They know no models."""

from collections.abc import Callable

from evovlm.errors import RecipeError
from evovlm.tasks.protocol import Generation, Item, ItemScore, Task
from evovlm.tasks.zoo_maths import ZooMaths
from evovlm.tasks.zoo_vqa import ZooVqa

__all__ = ["TASKS", "Generation", "Item", "ItemScore", "Task", "load_task", "parse_split"]

TASKS: dict[str, Callable[[], Task]] = {"zoo-maths": ZooMaths, "zoo-vqa": ZooVqa}


def load_task(name: str) -> Task:
    """The task of that name. Raises RecipeError with the choices."""
    if name not in TASKS:
        raise RecipeError(f"data: unknown task {name!r}; choose from {sorted(TASKS)}")
    return TASKS[name]()


def parse_split(where: str) -> tuple[Task, str]:
    """Task and split of `TASK:SPLIT`. Raises RecipeError with the choices."""
    name, _, split = where.partition(":")
    task = load_task(name)
    if split not in task.splits:
        raise RecipeError(f"data: {name} has no split {split!r}; choose from {list(task.splits)}, as {name}:test")
    return task, split
