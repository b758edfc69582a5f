"""A study's other outputs: the winner as a checkpoint, and test images for the report.

Knows assemblies and builds; no searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import torch

from evovlm.merging.assembly import Assembly
from evovlm.merging.build import build_checkpoint, card_facts, output_tensors, update_card
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study.result import Result
from evovlm.system.errors import RecipeError
from evovlm.system.progress import Watch, tell
from evovlm.tasks import Item

PICTURES = 12
LONGEST_NAME = 240  # characters; file systems allow 255 bytes, with the ending


def write_winner(assembly: Assembly, out: Path, result: Result, watch: Watch, gpu: torch.device | None) -> Path:
    """Write the winner as an ordinary checkpoint below `out`; returns its folder.

    If `checkpoint` already has another winner, the folder is named by the digest. `result` is shown on the model card,
    also of a checkpoint that is there already. gpu: merges it, if one is given.
    """
    folder = out / "checkpoint"
    if folder.exists():
        # Earlier versions wrote the recipe without the commits of models from the hub.
        if any(_is_of(folder / "recipe.yaml", recipe) for recipe in (assembly.pinned, assembly.recipe)):
            update_card(folder, evaluation_text(result))
            return folder.resolve()
        folder = out / f"checkpoint-{assembly.recipe.digest()[:8]}"
        if folder.exists():
            update_card(folder, evaluation_text(result))
            return folder.resolve()
    watch.phase("checkpoint", len(output_tensors(assembly)))
    facts = card_facts(assembly, evaluation=evaluation_text(result))
    build_checkpoint(
        assembly,
        folder,
        facts=facts,
        progress=lambda done, total: watch.step(f"{done / total:.0%}"),
        device=gpu,
        tell=partial(tell, watch),
    )
    return folder.resolve()


def _is_of(path: Path, recipe: Recipe) -> bool:
    """Whether a checkpoint's recipe is the same merge of the study's models, wherever these are by now.

    Within a study the models are the same, because it is bound to the hashes of their files.
    """
    try:
        return _without_places(read_recipe(path)).digest() == _without_places(recipe).digest()
    except RecipeError:
        return False


def _without_places(recipe: Recipe) -> Recipe:
    sources = tuple(
        source.model_copy(update={"model": "", "revision": None, "identity": None}) for source in recipe.sources
    )
    base = recipe.base and recipe.base.model_copy(update={"model": "", "revision": None})
    return recipe.model_copy(update={"sources": sources, "base": base})


def evaluation_text(result: Result) -> str:
    """A study's results as Markdown for the model card: the held-out table, and the selection bias of the search."""
    held_out, data = result.held_out, result.data
    evolved, commit = held_out.evolved, result.versions.get("commit", "unknown")
    judged = evolved.content is not None
    lines = [
        f"Held-out items of `{data.test or 'unknown'}` that no search has seen"
        f" ({_known(evolved.items, 'unknown number of')} items, seed {_known(result.seed)},"
        f" commit {commit}, {result.hardware or 'hardware unknown'}):",
        "",
        f"| model | score | 95 % interval |{' content |' if judged else ''} exact |",
        f"|---|---|---|{'---|' if judged else ''}---|",
    ]
    named = [
        *((f"source {name}", cell) for name, cell in held_out.scored_sources.items()),
        ("**this model**", evolved),
        *((f"control {name}", cell) for name, cell in held_out.scored_controls.items()),
    ]
    for name, cell in named:
        low, high = cell.ci95
        noted = f" ({cell.note})" if cell.note else ""
        shares = " | ".join(f"{100 * share:.1f} %" for share in (cell.content, cell.exact) if share is not None)
        lines.append(f"| {name}{noted} | {cell.score:.2f} | {low:.2f} to {high:.2f} | {shares} |")
    if judged:
        lines += [
            "",
            "Content: answers that say the right thing, whatever their style and language. Control prior: a guesser"
            " that sees the question alone. Control restyled: the best source, reworded by rules for style.",
        ]
    chosen = result.selection
    if chosen is not None and chosen.tied:
        lines += [
            "",
            f"The search found no best candidate: all {chosen.tied} scored {chosen.search_score:.2f} on the search"
            f" items, and trial {chosen.trial} stands for all of them. Nothing here says that this merge is better.",
        ]
    elif chosen is not None:
        lines += [
            "",
            f"It scored {chosen.search_score:.2f} on the search items and {chosen.choice_score:.2f} on fresh items:"
            " the best of many noisy scores is partly luck (selection bias).",
        ]
    if result.caution:
        lines += ["", result.caution]
    return "\n".join(lines)


def save_pictures(folder: Path, items: Sequence[Item]) -> None:
    """Save the images of the first items as PNG files in `folder`, for the report.

    A file is named by its item's id, percent-encoded: ids come from data files, and may be paths. Items whose name
    would be too long for a file system are left out.
    """
    folder.mkdir(exist_ok=True)
    for item in items[:PICTURES]:
        name = quote(item.id, safe="")
        path = folder / f"{name}.png"
        if item.image is None or len(name) > LONGEST_NAME or path.exists():
            continue
        begun = folder / f".{name}.part"
        item.image().convert("RGB").save(begun, format="PNG")
        begun.replace(path)


def _known(value: int | None, otherwise: str = "unknown") -> str:
    return otherwise if value is None else str(value)
