"""The check: whether a recipe fits its models, before any work is done.

Knows recipes and opened models; merges nothing. It reads headers and configurations, and of the tensors only those that
the output takes from its owner unchanged. It collects all problems, so that one run reports every one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evovlm.merging.check._finding import Finding
from evovlm.merging.check._licence import check_licence, licence_of
from evovlm.merging.check._lineage import check_lineage
from evovlm.merging.check._parameters import check_excluded, check_parameters
from evovlm.merging.check._resources import check_disk, check_memory
from evovlm.merging.check._structure import check_structure
from evovlm.merging.check._tensors import check_head, check_layers, check_stored, check_tower
from evovlm.merging.check._tokenizers import check_chat_template, check_tokenizer
from evovlm.merging.check._twins import check_twins, twins
from evovlm.merging.check._vocabularies import check_vocabulary
from evovlm.merging.check._weights import check_complete, check_copied, check_ids
from evovlm.merging.check.configuration import check_configuration, check_layer_settings, check_own_configuration
from evovlm.merging.check.route import check_route, depth_of
from evovlm.merging.check.stacks import check_stack
from evovlm.methods import METHODS
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe

__all__ = ["Finding", "check_recipe", "licence_of", "twins"]

_ORDER = {"error": 0, "warning": 1, "note": 2}


def check_recipe(
    recipe: Recipe, base: OpenModel | None, sources: Sequence[OpenModel], *, out: Path | None = None
) -> list[Finding]:
    """Check a merge before anything is merged; returns the findings, errors first.

    `sources`: in the recipe's order, labelled with their names in the recipe. `out`: where the checkpoint will be
    written, to check its free disk space; None skips that check. Problems are returned as findings, never raised.
    """
    by_name = {model.label: model for model in sources}
    owner = by_name[recipe.owner] if recipe.owner is not None else base or sources[0]
    models = [*([base] if base is not None else []), *sources]
    findings = [*check_structure(recipe, owner, by_name, base), *check_route(recipe, owner, by_name)]
    findings += [*check_parameters(recipe), *check_excluded(recipe, owner), *check_chat_template(recipe)]
    routed = bool(recipe.route) or (recipe.search is not None and recipe.search.route is not None)
    stacked = bool(recipe.slices) or routed
    method = METHODS.get(recipe.method)
    uses_base = method is not None and method.reads_base(given=base is not None)
    for model in models:
        findings += check_stored(model, recipe.dtype)
        findings += check_own_configuration(model)
        findings += check_ids(model, owner=model is owner)
        findings += check_head(model, owner)
        findings += check_licence(model)
        findings += check_lineage(model, base if uses_base else None)
        if model is not owner:
            findings += check_tower(model, owner, stacked=stacked)
            if not routed:  # check_route has already reported values that may not differ
                findings += check_configuration(model, owner, stacked=stacked)
            findings += check_vocabulary(model, owner, recipe.vocab)
            findings += check_tokenizer(model, owner)
        if stacked:
            findings += check_layers(model, owner, _used_layers(recipe, model))
        if not any(finding.key == f"{model.place}.tower" and finding.level == "error" for finding in findings):
            findings += check_complete(model)
    if stacked:
        findings += [*check_layer_settings(owner), *check_stack(recipe, owner, by_name)]
    findings += check_copied(owner)
    findings += check_twins(recipe, base, sources)
    findings += check_memory(owner, len(sources))
    if out is not None:
        findings += check_disk(recipe, owner, by_name, out)
    return sorted(findings, key=lambda finding: _ORDER[finding.level])


def _used_layers(recipe: Recipe, model: OpenModel) -> set[int]:
    """The layers of a model that a stack or route uses, or that a search may use."""
    if recipe.search is not None and recipe.search.route is not None:
        return set() if model.is_base else set(range(depth_of(model)))
    used = {layer for part in recipe.slices if part.source == model.label for layer in range(*part.layers)}
    return used | {step.layer for step in recipe.route if step.source == model.label}
