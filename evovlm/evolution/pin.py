"""Pin a recipe to what the local caches hold: the commit of each model and data set that comes from the hub.

Opens no connection; reads no weights and no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evovlm.models.open_model import HUB_ID, ZOO, resolve_folder
from evovlm.recipe.pinning import models_of, pinned
from evovlm.recipe.schema import Data, Recipe
from evovlm.recipe.where import split_where
from evovlm.system.errors import CheckpointError
from evovlm.system.hub_cache import COMMIT, commit_of
from evovlm.tasks import cached_commit
from evovlm.tasks.item_sets import hub_sets, refuse_unread


@dataclass
class Pins:
    """What was found out about each model (by key, such as `sources.ja`) and data set (by repository or key).

    `commits`: those that are pinned. `left`: those that could not be pinned, each with the reason.
    """

    commits: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def pin_to_cache(recipe: Recipe, root: Path) -> tuple[Recipe, Pins]:
    """The recipe with the commits that the local caches hold as revisions, and what could and could not be pinned.

    A revision that is a full commit already is kept. `root`: relative model folders count from it. Raises RecipeError
    if `data.revisions` names a data set that no task of the recipe reads.
    """
    refuse_unread(recipe)
    pins = Pins()
    models, data = {}, {}
    for key, (model, revision) in models_of(recipe):
        commit = _model_commit(pins, key, model, revision, root)
        if commit is not None:
            models[model, revision] = pins.commits[key] = commit
    revisions = recipe.data.revisions if recipe.data is not None else {}
    for repository, hub in hub_sets(recipe).items():
        wanted = revisions.get(repository)
        commit = wanted if wanted is not None and COMMIT.fullmatch(wanted) else cached_commit(hub, wanted)
        if commit is None:
            at = f" --revision {wanted}" if wanted else ""
            pins.left[repository] = (
                f"not in the local caches; fetch it with `hf download --repo-type dataset {repository}{at}`"
            )
        else:
            data[repository] = pins.commits[repository] = commit
    for key, path in _local_data(recipe.data):
        pins.left[key] = f"{path} is on this machine only, and has no revision"
    return pinned(recipe, models, data), pins


def _model_commit(pins: Pins, key: str, model: str, revision: str | None, root: Path) -> str | None:
    """The commit of one model; None, with the reason in `pins.left`, if there is none."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    if model.startswith(ZOO):
        pins.left[key] = f"{model} comes with evovlm, and has no revision"
        return None
    try:
        folder = resolve_folder(model, revision, root)
    except CheckpointError as error:
        pins.left[key] = str(error)
        return None
    commit = commit_of(folder) if HUB_ID.fullmatch(model) else None
    if commit is None:
        pins.left[key] = f"{folder} is on this machine only, and has no revision"
    return commit


def _local_data(data: Data | None) -> Iterator[tuple[str, str]]:
    """The keys of `data` that name a file or folder, and its path."""
    for key in () if data is None else ("search", "validation", "test"):
        where = getattr(data, key)
        path = split_where(where)[1] if where is not None else None
        if path is not None:
            yield f"data.{key}", path
