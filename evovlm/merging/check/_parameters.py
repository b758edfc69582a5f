"""Checks a recipe's numbers where they are undefined together: weights that cancel, della's epsilon and densities.

Also parts of tensors' names that a recipe mentions and no tensor has. Knows the recipe and the owner's names.
"""

from __future__ import annotations

from collections.abc import Iterator

from evovlm.merging._unfit_weights import LEAST_SHARE, unfit_weights
from evovlm.merging.check._finding import Finding
from evovlm.methods import METHODS
from evovlm.methods.table import per_element_refused
from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe
from evovlm.system.plain_text import abridged

MOST_NAMED = 16  # parts of names


def check_parameters(recipe: Recipe) -> Iterator[Finding]:
    """Report weights that all but cancel, and densities for which della's epsilon is too large."""
    method = METHODS.get(recipe.method)
    if method is not None and method.drop != "della" and recipe.options.rescale == "per_element":
        yield Finding("error", "options.rescale", per_element_refused(recipe.method))
        return
    if recipe.search is None:  # a search replaces them
        for group, share, text in unfit_weights(recipe):
            yield Finding("error" if share < LEAST_SHARE else "warning", "parameters", f"weights of {group!r}: {text}")
    if method is not None and not method.drop:
        yield from _unused(recipe)
    if method is not None and not method.weighted and not (recipe.search is not None and recipe.search.route):
        yield from _unweighted(recipe)
    if method is not None and method.drop == "della":
        yield from _epsilon(recipe)


def check_excluded(recipe: Recipe, owner: OpenModel) -> Iterator[Finding]:
    """Report parts of names in the option `exclude` that no tensor of the tower has: nothing would be excluded."""
    given = recipe.options.own.get("exclude")
    if not isinstance(given, str):
        return
    parts = {part for name in owner.tower for part in name.split(".") if not part.isdecimal()}
    # A tower may lack these, which every method on matrices leaves out by default.
    known = parts | {part for name in VOCABULARY_TENSORS for part in name.split(".")}
    for wanted in filter(None, (part.strip() for part in given.split(","))):
        if wanted not in known and not (wanted.isdecimal() and any(wanted in name.split(".") for name in owner.tower)):
            names = sorted(parts - {"model", "weight", "layers"})
            listed = ", ".join(names[:MOST_NAMED]) + (" and others" if len(names) > MOST_NAMED else "")
            text = f"no tensor has {abridged(wanted)!r} between the dots of its name; names are {listed}"
            yield Finding("error", "options.exclude", text)


def _unused(recipe: Recipe) -> Iterator[Finding]:
    """Settings for dropping elements, of a method that drops none."""
    text = f"{recipe.method} drops nothing, so this is not used; remove it, or choose another method"
    for source in recipe.source_names:
        given = recipe.of(source).density
        if any(density != 1 for density in (given.values() if isinstance(given, dict) else [given])):
            yield Finding("warning", f"parameters.{source}.density", text)
    if recipe.options.rescale is not None:
        yield Finding("warning", "options.rescale", text)
    search = recipe.search
    if search is not None and search.density is not None and "density" in search.model_fields_set:
        yield Finding("warning", "search.density", text)


def _unweighted(recipe: Recipe) -> Iterator[Finding]:
    """Weights of a method that uses none."""
    text = f"{recipe.method} uses no weights, so this changes nothing; remove it, or choose another method"
    for source in recipe.source_names:
        given = recipe.of(source).weight
        if any(weight != 1 for weight in (given.values() if isinstance(given, dict) else [given])):
            yield Finding("warning", f"parameters.{source}.weight", text)
    if recipe.search is not None and recipe.search.weight is not None:
        yield Finding("warning", "search.weight", text.replace("remove it", "set it to null"))


def _epsilon(recipe: Recipe) -> Iterator[Finding]:
    """mergekit refuses such an epsilon; here it is limited, because a search varies densities and not epsilon."""
    epsilon, search = recipe.options.epsilon, recipe.search
    if search is not None and search.density is not None:
        low, high = search.density.low, search.density.high
        if low < epsilon or high > 1 - epsilon:
            text = f"{epsilon:g} is reduced for densities below {epsilon:g} or above {1 - epsilon:g}"
            yield Finding("note", "options.epsilon", text)
        return
    for source in recipe.source_names:
        given = recipe.of(source).density
        densities = set(given.values()) if isinstance(given, dict) else {given}
        unfit = sorted(density for density in densities if 0 < density < 1 and not epsilon <= density <= 1 - epsilon)
        if unfit:
            told = ", ".join(f"{density:g}" for density in unfit)
            text = (
                f"{epsilon:g} is too large for {source}'s density {told}: keep-probabilities are density ± epsilon and"
                " must be within 0 to 1. It is reduced there; lower it to say so yourself"
            )
            yield Finding("warning", "options.epsilon", text)
