"""The public Python API: `from evovlm import Recipe, merge, evolve, evaluate, suggest`.

Connects the other packages, as `cli` does for a terminal, and has no logic of its own. Each function imports what it
needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evovlm.recipe.schema import Recipe

if TYPE_CHECKING:
    from evovlm.evaluators.evaluation import Evaluation
    from evovlm.evolution.suggest.advise import Advice
    from evovlm.study.result import Result
    from evovlm.system.progress import Watch

__all__ = ["Recipe", "evaluate", "evolve", "merge", "suggest"]


def merge(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    download: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    max_shard_bytes: int = 5 * 10**9,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Merge models as a recipe describes, write an ordinary Hugging Face checkpoint, and return its folder.

    >>> from evovlm import merge
    >>> folder = merge("zoo-vlm", "merged")
    >>> sorted(path.name for path in folder.glob("*.safetensors"))
    ['model.safetensors']

    recipe: a `Recipe`, a YAML file (ours or mergekit's), or the name of a shipped recipe (`evovlm recipe list`).
    out: the folder to write. It must not exist; it appears complete or not at all.
    download: fetch models from the hub that are not in the local cache.
    threads: maximum number of tensors merged at a time; by default one per core, as far as memory allows.
    device: what merges, to the same bits: `cpu`, `cuda`, `cuda:1`, or `auto` (a GPU if one works).
    max_shard_bytes: maximum size of a weights file, in bytes.
    progress: called with the bytes written so far and the total number of bytes.

    Raises RecipeError if the recipe cannot be read or does not fit its models, and CheckpointError if a model is
    missing or damaged, `out` exists, the disk is full, or a merged weight is not finite. Both are `ValueError`s.

    The merge rules are named with their papers in docs/recipes.md; the default conventions are mergekit's
    (arXiv:2403.13257).
    """
    from evovlm.merging.assembly import assemble
    from evovlm.merging.build import build_checkpoint
    from evovlm.system.device import gpu_named

    found, folder, gpu = _recipe(recipe), Path(out), gpu_named(device)
    assembly = assemble(found, found.root, download=download, out=folder)
    return build_checkpoint(
        assembly, folder, progress=progress, threads=threads, max_shard_bytes=max_shard_bytes, device=gpu
    ).folder


def evolve(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    trials: int | None = None,
    items: int | None = None,
    seed: int | None = None,
    judged: int | None = None,
    device: str = "auto",
    checkpoint: bool = False,
    rivals: bool = False,
    race: bool | None = None,
    keep_diverse: bool = False,
    download: bool = False,
    self_check: bool = True,
    watch: Watch | None = None,
) -> Result:
    """Search a recipe's parameters, pick the winner on fresh items, and test it on held-out ones.

    >>> from evovlm import Recipe, evolve
    >>> result = evolve("zoo-llm", "runs/llm", trials=4, items=8, judged=8)
    >>> Recipe.read("runs/llm/best.yaml").source_names
    ('ja', 'math', 'math2')

    Returns a `Result`, the contents of `result.json` in the study's folder `out`: the winner, and its score (0 to 100)
    on the test items next to its sources and the controls. The same call resumes; a larger `trials` extends a study.

    recipe, download: as in `merge`; the recipe needs `search` and `data`.
    trials, items, seed: total candidates, questions per candidate, and seed of the search; by default the recipe's.
    judged: questions used to pick the winner, and for the final test; 300 and 500 by default.
    device: as in `merge`; `auto` is a GPU if one works, or the device that a resumed study was begun on.
    checkpoint, keep_diverse: also write the winner as a checkpoint; also keep the best recipe for each skill profile.
    rivals: also run two baseline searches (random; one weight per source). Three times the cost.
    race: drop a candidate as soon as a test on few items shows that it is worse; by default as the recipe says.
    self_check: when a model is loaded, compare its logits with those of transformers' own forward pass.
    watch: an object with the methods `phase` and `step` of `evovlm.system.progress.Watch`; by default nothing is shown.

    Raises as `merge` does, DataError if items cannot be read, and StudyError if `out` holds a different study or is in
    use. All are `ValueError`s. The search follows arXiv:2403.13187, sections 3.1 and 3.2, with CMA-ES by default.
    """
    from evovlm.evolution.plan import EvolveSettings
    from evovlm.evolution.stages import evolve_stages
    from evovlm.search.race import RaceSettings
    from evovlm.system.progress import Quiet

    settings = EvolveSettings(
        trials=trials,
        items=items,
        seed=seed,
        judged=judged,
        device=_device_for(Path(out), device),
        checkpoint=checkpoint,
        download=download,
        rivals=rivals,
        race=RaceSettings() if race else race,
        keep_diverse=keep_diverse,
        self_check=self_check,
    )
    found = _recipe(recipe)
    return evolve_stages(found, found.root, settings, Path(out), watch or Quiet())


def evaluate(
    model: Recipe | str | Path,
    data: str,
    *,
    items: int | None = 500,
    seed: int = 0,
    batch: int = 128,
    preset: str | None = None,
    device: str = "auto",
    download: bool = False,
    self_check: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a model, or the merge that a recipe describes, on one task.

    >>> from evovlm import evaluate
    >>> found = evaluate("zoo:vlm", "zoo-vqa:test", items=16)
    >>> 0 <= found.score <= 100, len(found.answers)
    (True, 16)

    Returns an `Evaluation`: `score` is the mean over items (0 to 100), `interval()` its 95 % interval, and `scores`,
    `exact` and `answers` have one entry per item, in item order. A recipe is merged in memory; nothing is written.

    model: a checkpoint folder, `zoo:NAME` or a hub id; or a `Recipe`, a recipe file, or a shipped recipe's name.
    A language model answers questions about images without seeing them.
    data: TASK:SPLIT, such as `zoo-vqa:test`, or TASK@PATH:SPLIT with the data in a file or folder.
    items, seed: number of items to draw (None: all of them), and the seed that selects them.
    batch: questions answered at once.
    preset: how the task asks and scores; by default the task's own preset.
    device, download, self_check: as in `evolve` and `merge`.
    progress: called with the number of answered questions and of all; with zeros before the model is loaded.

    Raises CheckpointError, RecipeError or DataError (`ValueError`s) if something cannot be opened or does not fit, and
    FloatingPointError if a merge gives logits that are not finite.

    docs/benchmarks.md describes how each task is asked and scored, with sources.
    """
    from evovlm.recipe.shipped import means_recipe
    from evovlm.system.device import chosen_device

    device = chosen_device(device)
    if isinstance(model, Recipe) or means_recipe(model):
        return _evaluate_recipe(
            _recipe(model), data, items, seed, batch, preset, device, download, self_check, progress
        )
    from evovlm.evaluators.single_model import evaluate_model

    return evaluate_model(
        str(model),
        data,
        items,
        seed=seed,
        batch=batch,
        device=device,
        download=download,
        preset=preset,
        self_check=self_check,
        progress=progress,
    )


def suggest(
    models: Sequence[str | Path] | str | Path,
    *,
    base: str | Path,
    data: str,
    items: int = 100,
    seed: int = 0,
    device: str = "auto",
    download: bool = False,
    watch: Watch | None = None,
) -> Advice:
    """Rank candidate sources for a task with cheap tests, and explain each rank.

    >>> from evovlm import suggest
    >>> advice = suggest(["zoo:ja", "zoo:math"], base="zoo:base", data="zoo-maths:search", items=8)
    >>> sorted(one.source for one in advice.ranking)
    ['ja', 'math']

    Returns an `Advice`: `ranking` lists the sources, most useful first, each with its score alone and together with
    those before it (0 to 100), the points it adds with their 95 % interval, and a reason in words.

    models: language models tuned from `base` (folders, `zoo:NAME` or hub ids), or one folder that contains them.
    data: TASK:SPLIT, not a test split.
    items, seed: questions per merge that is tried (at least 2), and the seed that selects them.
    device: as in `evaluate`; on a GPU the task vectors are compared there too. download: as in `merge`.
    watch: as in `evolve`.

    Raises RecipeError for fewer than two models or a test split, and CheckpointError for a model that cannot be opened.

    The first source is chosen by a Shapley value truncated at pairs, the others by greedy forward selection with the
    one-standard-error rule (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
    """
    from evovlm.evolution.suggest.advise import named_models
    from evovlm.evolution.suggest.advise import suggest as advise
    from evovlm.system.device import chosen_device
    from evovlm.system.errors import RecipeError
    from evovlm.system.progress import Quiet

    if items < 2:
        raise RecipeError(f"items: {items} is too few; give 2 or more")
    names, device = named_models(models), chosen_device(device)
    return advise(
        str(base),
        names,
        data,
        items=items,
        seed=seed,
        root=Path(),
        device=device,
        watch=watch or Quiet(),
        download=download,
    )


def _recipe(named: Recipe | str | Path) -> Recipe:
    return named if isinstance(named, Recipe) else Recipe.read(named)


def _device_for(study: Path, named: str) -> str:
    """The device that a search in this folder runs on. Raises UserError if it does not work."""
    from evovlm.study.device import device_of
    from evovlm.system.device import check_device

    device = device_of(named, study)
    check_device(device)
    return device


def _evaluate_recipe(
    recipe: Recipe,
    data: str,
    count: int | None,
    seed: int,
    batch: int,
    preset: str | None,
    device: str,
    download: bool,
    self_check: bool,
    progress: Callable[[int, int], None] | None,
) -> Evaluation:
    """Score one candidate in a resident model, or along its route if it has one."""
    from evovlm.evaluators.local import LocalEvaluator
    from evovlm.merging.assembly import assemble
    from evovlm.tasks import Options
    from evovlm.tasks.item_sets import read_item_set

    # The recipe is scored as it is, so its search settings do not matter.
    alone = recipe.model_copy(update={"search": None, "then": None})
    items = read_item_set("test", data, count, seed, options=Options(preset=preset, download=download))
    assembly = assemble(alone, alone.root, download=download)
    if progress is not None:
        progress(0, 0)
    evaluator = LocalEvaluator(assembly, batch=batch, device=device, self_check=self_check)
    return evaluator.evaluate(alone, items, progress)
