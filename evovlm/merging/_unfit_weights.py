"""Finds weights that all but cancel where a method divides by their sum.

Knows a recipe's numbers and methods; no models and no tensors. Dividing by a sum that is a small share of its terms
multiplies the task vectors, and the rounding of the sources with them: a 16-bit weight is right to one part in 256
(bfloat16), so beyond a factor of about 100 the result is mostly rounding. mergekit divides all the same; only a sum
that is exactly 0 counts as 1 there, and here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from evovlm.merging._cancelling import smallest_share
from evovlm.methods import LEAST_DIVISOR, METHODS, Method, as_float32, resolve_options
from evovlm.methods.spherical import LEAST_SUM, nuslerp
from evovlm.recipe.schema import WHOLE, Recipe, value_at
from evovlm.system.errors import UnfitValues

# Sums below this share of the weights' magnitudes are refused, and those below the second are a warning.
LEAST_SHARE = 0.01
SMALL_SHARE = 0.1
UNDEFINED_AT_0 = ("linear", "slerp", "multislerp")  # for the others, a sum of exactly 0 counts as 1 (t as 1/2)
# Up to so many sources each subset is looked at (elected signs divide by subsets: any may agree somewhere).
MOST_LISTED = 10


def refuse_unfit_weights(recipe: Recipe) -> None:
    """Raise UnfitValues if the weights of a group all but cancel where the method divides by their sum."""
    for group, share, text in unfit_weights(recipe):
        if share < LEAST_SHARE:
            raise UnfitValues(f"weights of {group!r}: {text}")


def unfit_weights(recipe: Recipe) -> Iterator[tuple[str, float, str]]:
    """Yield (layer group, share, what is wrong) for each group whose weights' sum is a small share of their sizes."""
    method = METHODS.get(recipe.method)
    division = None if method is None or not method.weighted else _division(recipe)
    if method is None or division is None:
        return
    what, way_out = division
    for group in _groups(recipe):
        weights = [value_at(recipe.of(source).weight, group, 1.0) for source in recipe.source_names]
        share, total = _smallest(weights, method)
        if any(weights) and total == 0 and recipe.method in UNDEFINED_AT_0:
            told = ", ".join(f"{weight:g}" for weight in weights)
            yield group, 0.0, f"{told} sum to 0, and the method divides by their sum; change a weight"
        elif share < SMALL_SHARE:
            text = (
                f"{', '.join(f'{weight:g}' for weight in weights)} all but cancel (a sum of {total:.2g}), and {what}"
                f" multiplies differences {1 / share:.0f} times; change a weight{way_out}"
            )
            yield group, share, text


def _division(recipe: Recipe) -> tuple[str, str] | None:
    """How a method divides by the sum of the weights, and what ends that, in words; None if it does not divide."""
    if recipe.method in ("slerp", "nuslerp"):
        return "t = w2 / (w1 + w2)", ""
    given = recipe.options
    options = resolve_options(
        recipe.method, given.normalize, given.rescale, given.lambda_, given.epsilon, given.gamma, given.own
    )
    if recipe.method == "multislerp":
        divides, key = options.own.normalize_weights and len(recipe.sources) > 1, "normalize_weights"
    else:
        divides, key = options.normalize, "normalize"
    return ("dividing by their sum", f", or set `{key}: false`") if divides else None


def _groups(recipe: Recipe) -> list[str]:
    """The groups that parameters name, and one name for all others."""
    weights = [recipe.of(source).weight for source in recipe.source_names]
    named = dict.fromkeys(group for weight in weights if isinstance(weight, dict) for group in weight)
    return [*named, WHOLE]


def _smallest(weights: Sequence[float], method: Method) -> tuple[float, float]:
    """The smallest share |sum| / sum of |w|, and its sum, over all weights or over any that are divided by.

    Where signs are elected, each element is divided by the sum over the sources that agree there. A share of 1 if there
    is nothing to divide by, or the sum counts as 1.
    """
    used = [as_float32(weight) for weight in weights if weight]
    if all(weight > 0 for weight in used) or all(weight < 0 for weight in used):
        return 1.0, sum(used)
    if not method.elect:
        return _share(used, method)
    if len(used) > MOST_LISTED:
        return smallest_share(used, lambda part: _share(part, method))
    parts = (part for size in range(2, len(used) + 1) for part in combinations(used, size))
    return min(_share(part, method) for part in parts)


def _share(weights: Sequence[float], method: Method) -> tuple[float, float]:
    """|sum| / sum of |w| and the sum, added up as the method does; 1 if the sum counts as 1."""
    total = 0.0
    for weight in weights:
        total = as_float32(total + weight) if method.elect else total + weight
    least = LEAST_SUM if method.rule is nuslerp else LEAST_DIVISOR if method.needs_base and not method.elect else 0.0
    return (1.0, total) if abs(total) <= least else (abs(total) / sum(map(abs, weights)), total)
