"""Tasks by name: data sets, prompts and scores. They know no models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evovlm.recipe.schema import split_where
from evovlm.system.errors import RecipeError
from evovlm.system.files import counted_from
from evovlm.tasks.custom import custom_maths, custom_vqa
from evovlm.tasks.gsm8k_ja_search import gsm8k_ja_search
from evovlm.tasks.in_the_wild import in_the_wild
from evovlm.tasks.ja_vg_vqa_500 import ja_vg_vqa_500
from evovlm.tasks.ja_vg_vqa_search import ja_vg_vqa_search
from evovlm.tasks.jcommonsenseqa import jcommonsenseqa
from evovlm.tasks.mgsm_ja import mgsm_ja
from evovlm.tasks.options import Options
from evovlm.tasks.protocol import Generation, Item, ItemScore, Task
from evovlm.tasks.zoo_maths import zoo_maths
from evovlm.tasks.zoo_medium import zoo_medium_vqa, zoo_medium_wild
from evovlm.tasks.zoo_vqa import zoo_vqa

__all__ = ["TASKS", "Generation", "Item", "ItemScore", "Options", "Task", "load_task", "parse_split"]

TASKS: dict[str, Callable[[Options], Task]] = {
    "zoo-maths": zoo_maths,
    "zoo-vqa": zoo_vqa,
    "zoo-medium-vqa": zoo_medium_vqa,
    "zoo-medium-wild": zoo_medium_wild,
    "ja-vg-vqa-500": ja_vg_vqa_500,
    "ja-vlm-bench-in-the-wild": in_the_wild,
    "ja-vg-vqa-search": ja_vg_vqa_search,
    "mgsm-ja": mgsm_ja,
    "gsm8k-ja-search": gsm8k_ja_search,
    "jcommonsenseqa": jcommonsenseqa,
    "custom-vqa": custom_vqa,
    "custom-maths": custom_maths,
}


def load_task(name: str, options: Options | None = None) -> Task:
    """The task of that name. Raises RecipeError with the choices."""
    if name not in TASKS:
        raise RecipeError(f"data: unknown task {name!r}; choose from {sorted(TASKS)}")
    return TASKS[name](options or Options())


def parse_split(where: str, options: Options | None = None, root: Path | None = None) -> tuple[Task, str]:
    """Task and split of `TASK:SPLIT`, or of `TASK@PATH:SPLIT` where its data lies in a local file or folder.

    A relative path counts from `root`, the working directory where there is none. Raises RecipeError with the choices.
    """
    name, path, split = split_where(where)
    chosen = options or Options()
    if path is not None:
        chosen = replace(chosen, path=counted_from(root or Path(), path))
    task = load_task(name, chosen)
    if split not in task.splits:
        what = f"has no split {split!r}" if split else "needs a split"
        raise RecipeError(f"data: {name} {what}; choose from {list(task.splits)}, as {name}:test")
    return task, split
