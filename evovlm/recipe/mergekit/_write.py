"""Write a recipe as mergekit's YAML (0.1.x).

Knows the recipe's schema and mergekit's keys; opens no models. Layer groups become conditions on tensor names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from evovlm.methods import METHODS
from evovlm.models.open_model import ZOO, resolve_folder
from evovlm.recipe.layer_groups import EMBEDDINGS, HEAD, LAYER_RANGE
from evovlm.recipe.mergekit._settings import shared_methods, takes_part
from evovlm.recipe.schema import WHOLE, Recipe, value_at
from evovlm.system.errors import RecipeError

DRAWN = ("random", "della")  # the kinds of drop that draw a mask
Condition = tuple[str | None, str]  # filter (None: all remaining tensors), group


def write_mergekit(recipe: Recipe) -> str:
    """The recipe as mergekit's YAML. Raises RecipeError, which names the key, if mergekit cannot express something."""
    _refuse(recipe)
    content: dict[str, Any] = {"merge_method": recipe.method}
    base = _base_of(recipe)
    if base is not None:
        content["base_model"] = base
    if recipe.slices:
        content["slices"] = [
            {"sources": [{"model": _model(recipe, part.source), "layer_range": list(part.layers)}]}
            for part in recipe.slices
        ]
    else:
        conditions = _conditions(recipe)
        content["models"] = [
            _with_parameters({"model": _model(recipe, name)}, _of_source(recipe, name, conditions))
            for name in recipe.source_names
        ]
    parameters = _options(recipe)
    if recipe.method == "slerp":
        parameters["t"] = _slerp_t(recipe, _conditions(recipe))
    # evovlm always computes in float32, whatever dtype it stores.
    content |= {"parameters": parameters} if parameters else {}
    content |= {"dtype": "float32", "out_dtype": recipe.dtype}
    if recipe.vocab == "match":
        content["tokenizer_source"] = _tokenizer(recipe, base)
    if recipe.chat_template is not None:
        content["chat_template"] = recipe.chat_template
    return _notes(recipe) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def _refuse(recipe: Recipe) -> None:
    if recipe.kind == "vlm":
        raise RecipeError("kind: mergekit merges only language models; a vlm recipe cannot be exported")
    if recipe.method not in (both := shared_methods()):
        raise RecipeError(f"method: mergekit has no {recipe.method!r}; both have {both}")
    if recipe.vocab in ("shared", "tower"):
        raise RecipeError(f"vocab: mergekit has no equivalent of {recipe.vocab!r}; use match or position")
    refused = {"inverse": "the inverse density", "per_element": "each element's own keep-probability"}
    if recipe.options.rescale in refused:
        what = refused[recipe.options.rescale]
        raise RecipeError(f"options.rescale: mergekit rescales by l1 or not at all, not by {what}")
    theirs = set((METHODS[recipe.method].mergekit or {}).values())
    for name in recipe.options.own:
        if name not in theirs:
            raise RecipeError(f"options.{name}: mergekit's {recipe.method} has no such option; leave it at its default")


def _base_of(recipe: Recipe) -> str | None:
    if recipe.method == "slerp":
        return _model(recipe, recipe.source_names[0])
    if recipe.method == "passthrough" and (recipe.owner is not None or recipe.base is None):
        # The base of a stack provides configuration and tokenizer; without it mergekit could take them from any source.
        return _model(recipe, recipe.owner or recipe.source_names[0])
    if recipe.base is None:
        return None
    base = _theirs(recipe.base.model, recipe.base.revision)
    # mergekit would add the base to a linear merge; without the key the first model provides the configuration.
    if takes_part(METHODS[recipe.method]) and base not in [_model(recipe, name) for name in recipe.source_names]:
        return None
    return base


def _tokenizer(recipe: Recipe, base: str | None) -> str:
    if recipe.owner is not None:
        return _model(recipe, recipe.owner)
    if recipe.base is not None and base is not None:
        return "base"
    if recipe.base is not None:
        raise RecipeError(f"owner: name a source; mergekit cannot use the base's vocabulary with {recipe.method}")
    return _model(recipe, recipe.source_names[0])


def _model(recipe: Recipe, name: str) -> str:
    source = next(source for source in recipe.sources if source.name == name)
    return _theirs(source.model, source.revision)


def _theirs(model: str, revision: str | None) -> str:
    """A model reference that mergekit can resolve: zoo models become folders."""
    if model.startswith(ZOO):
        model = str(resolve_folder(model, None, Path()))
    return f"{model}@{revision}" if revision else model


def _of_source(recipe: Recipe, name: str, conditions: Sequence[Condition]) -> dict[str, Any]:
    if not METHODS[recipe.method].weighted or recipe.method == "slerp":
        return {}
    own = recipe.of(name)
    found = {"weight": _setting(own.weight, conditions)}
    if recipe.method != "linear" and own.density != 1.0:
        found["density"] = _setting(own.density, conditions)
    return found


def _slerp_t(recipe: Recipe, conditions: Sequence[Condition]) -> Any:
    first, second = (recipe.of(name).weight for name in recipe.source_names)
    shares = {}
    for _, group in conditions:
        one, two = value_at(first, group, 1.0), value_at(second, group, 1.0)
        if one + two == 0:
            raise RecipeError(f"parameters: the weights of {group!r} sum to 0, so slerp's t is undefined; change one")
        shares[group] = two / (one + two)
    return _setting(shares, conditions)


def _setting(value: float | dict[str, float], conditions: Sequence[Condition]) -> Any:
    if isinstance(value, dict):
        values = [value_at(value, group, 1.0) for _, group in conditions]
        if len(set(values)) > 1:
            return [
                {"value": number} if wanted is None else {"filter": wanted, "value": number}
                for (wanted, _), number in zip(conditions, values, strict=True)
            ]
        return values[0]
    return value


def _conditions(recipe: Recipe) -> list[Condition]:
    """Groups as filters on tensor names; in evovlm and in mergekit the first match wins."""
    if recipe.groups == WHOLE or all(
        not isinstance(value, dict)
        for name in recipe.source_names
        for value in (recipe.of(name).weight, recipe.of(name).density)
    ):
        return [(None, WHOLE)]
    if isinstance(recipe.groups, dict):
        return [
            (wanted, group)
            for group, patterns in recipe.groups.items()
            for pattern in patterns
            for wanted in _filters(pattern, group)
        ]
    used = {
        group
        for name in recipe.source_names
        for value in (recipe.of(name).weight, recipe.of(name).density)
        if isinstance(value, dict)
        for group in value
    }
    found: list[Condition] = [("model.embed_tokens.", EMBEDDINGS)]
    blocks = [group for group in used if LAYER_RANGE.match(group)]
    for group in sorted(blocks, key=lambda group: int(group.split()[1].split("-")[0])):
        found += [(wanted, group) for wanted in _filters(group, group)]
    found += [("model.norm.", HEAD), ("lm_head.", HEAD)]
    if len(blocks) < int(recipe.groups):
        found.append((None, "layers that no parameter names"))
    return found


def _filters(pattern: str, group: str) -> Iterator[str | None]:
    """mergekit's filters for a glob or layer range. A filter is a substring of the tensor's name.

    Raises RecipeError for a glob that cannot be expressed as one.
    """
    span = LAYER_RANGE.match(pattern)
    if span:
        yield from (f"model.layers.{layer}." for layer in range(int(span.group(1)), int(span.group(2)) + 1))
        return
    if pattern == "*":
        yield None
        return
    if pattern in ("model.layers.*", "*.layers.*"):
        yield "model.layers."
        return
    core = pattern.removeprefix("model.layers.*").removeprefix("*")
    anchored = core.startswith(("model.", "lm_head.")) or core != pattern
    ends = core.endswith("*") or core.endswith((".weight", ".bias"))
    core = core.removesuffix("*")
    if not core or any(sign in core for sign in "*?[") or not anchored or not ends:
        raise RecipeError(f"groups.{group}: mergekit cannot express {pattern!r}; its filters are parts of names")
    yield core


def _options(recipe: Recipe) -> dict[str, Any]:
    given, row = recipe.options, METHODS[recipe.method]
    found: dict[str, bool | float | str] = {}
    if row.uses and given.normalize is not None:
        found["normalize"] = given.normalize
    if row.uses and given.rescale is not None:
        found["rescale"] = given.rescale == "l1"
    if row.uses and given.lambda_ != 1.0:
        found["lambda"] = given.lambda_
    if "epsilon" in row.uses:
        found["epsilon"] = given.epsilon
    if "gamma" in row.uses:
        found["gamma"] = given.gamma
    # mergekit's defaults may change, so its parameters are written even where they have evovlm's defaults.
    own = row.own_options(given.own)
    return found | {theirs: getattr(own, ours) for theirs, ours in (row.mergekit or {}).items()}


def _with_parameters(entry: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    return entry | ({"parameters": parameters} if parameters else {})


def _notes(recipe: Recipe) -> str:
    lines = [f"# From evovlm recipe {recipe.digest()}."]
    if METHODS[recipe.method].drop in DRAWN:
        lines.append("# mergekit draws different random masks (--random-seed), so elements differ where density < 1.")
    if recipe.search is not None:
        lines.append("# The search section is not exported.")
    return "\n".join(lines) + "\n"
