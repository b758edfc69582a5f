"""mergekit's `models` and `slices`: which models are merged in which layers, with which parameters.

Knows the two ways of listing models; no methods and no tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evovlm.models.layouts import EMBEDDING, FINAL_NORM, OUTPUT_HEAD
from evovlm.recipe.layer_groups import grouping, layer_of
from evovlm.recipe.limits import MOST_CONDITIONS, MOST_LAYERS
from evovlm.recipe.mergekit._cells import USUAL, Grouped, Names, Values, ValuesAt, further_tensors, group_tensors
from evovlm.recipe.mergekit._models import Model, name_of, parse_model
from evovlm.recipe.mergekit._settings import (
    IGNORED,
    ONE_LAYER,
    Scope,
    filters,
    has_gradient,
    known_parameters,
    resolve,
)
from evovlm.recipe.schema import WHOLE
from evovlm.system.errors import RecipeError


class Unset(RecipeError):
    """A parameter that nothing gives a value to: `name` is its name, `model` the model that lacks it."""

    def __init__(self, name: str, model: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name
        self.model = model


class UnfitFilter(RecipeError):
    """A filter that fits no tensor; `text` is the filter."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(problem)
        self.text = text


PLACED = ("weight", "density", "t")  # parameters that may differ between tensors


@dataclass(frozen=True)
class Segment:
    """A run of output layers: the models that are merged there, and their parameters.

    `length`: number of layers; None if the file does not give it. `starts`: each model's first layer.
    """

    scopes: dict[Model, Scope]
    starts: dict[Model, int | None]
    length: int | None
    shared: Scope
    fallback: tuple[Scope, ...] = ()

    def with_fallback(self, fallback: tuple[Scope, ...], base: Model | None) -> Segment:
        """The segment with the module's and the file's parameters, and with the base, which mergekit adds if missing.

        `fallback`: the more specific first.
        """
        scopes = self.scopes if base is None or base in self.scopes else {**self.scopes, base: {}}
        return replace(self, scopes=scopes, fallback=fallback)

    def of(self, model: Model | None) -> list[Scope]:
        """The parameter mappings that apply to a model, the most specific first."""
        own = [self.scopes.get(model, {})] if model is not None else []
        return [*own, self.shared, *self.fallback]

    def settings(self) -> list[Any]:
        """Every setting of a weight, a density or t in the segment."""
        scopes = [*self.scopes.values(), self.shared, *self.fallback]
        return [scope[key] for scope in scopes for key in PLACED if key in scope]


def read_segments(content: Mapping[str, Any]) -> list[Segment]:
    """The segments of a file, in the order of the output's layers. Raises RecipeError if the lists are malformed."""
    _refuse_many(content)
    known = known_parameters(str(content.get("merge_method"))) | set(IGNORED)
    models, slices = content.get("models"), content.get("slices")
    if bool(models) == bool(slices):
        raise RecipeError("models, slices: give exactly one of them")
    if models:
        return [_segment(_list(models, "models"), {}, "models", known)]
    segments = []
    for number, part in enumerate(_list(slices, "slices")):
        key = f"slices.{number}"
        _refuse_keys(part, {"sources", "parameters", "base_model"}, key)
        shared = part.get("parameters") or {}
        _refuse_keys(shared, known, f"{key}.parameters")
        segments.append(_segment(_list(part.get("sources"), f"{key}.sources"), shared, key, known))
    depth = sum(segment.length or 0 for segment in segments)
    if depth == 0:
        raise RecipeError("slices: they have no layers; give a layer_range with start < stop")
    if depth > MOST_LAYERS:
        raise RecipeError(f"slices: {depth} layers in all; give at most {MOST_LAYERS}")
    return segments


def _refuse_many(content: Mapping[str, Any]) -> None:
    """Refuse more values in lists than can be looked at for every tensor of every layer."""
    waiting, values = [content.get(key) for key in ("models", "slices", "parameters")], 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, (dict, list)):
            waiting += part.values() if isinstance(part, dict) else part
            values += len(part) if isinstance(part, list) else 0
        if values > MOST_CONDITIONS:
            raise RecipeError(f"more than {MOST_CONDITIONS} conditions and list entries; give fewer")


def read_parameters(
    segments: list[Segment],
    sources: Mapping[Model, str],
    layers: Callable[[], int | None],
    tensors: Callable[[], Sequence[str]] = tuple,
    *,
    slerp_base: Model | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A recipe's `groups` and `parameters`.

    `layers`: returns the models' number of layers, `tensors` their tensors' names if a model is on this machine; called
    only if needed. `slerp_base`: if given, read `t` instead of weights. Raises RecipeError if a parameter is missing, a
    filter fits no tensor, or the slices cannot be expressed in a recipe.
    """
    texts = sorted({text for segment in segments for text in _filters(segment)})
    known = tensors() if texts else ()
    named = known or further_tensors(texts)
    _refuse_idle(texts, known, named)
    segments = _measured(segments, sources, layers)
    _refuse_idle_in_slices(segments, known)
    found = _grouped(segments, sources, named, slerp_base)
    if not _agrees(*found, known) and segments[0].length is None:
        depth = 1 + max(layer for name in known if (layer := layer_of(name)) is not None)
        found = _grouped([replace(segments[0], length=depth)], sources, known, slerp_base)
    if not _agrees(*found, known):
        raise RecipeError(f"parameters: the filters {texts} cannot be expressed as groups of tensors")
    length = None if segments[0].length is None else sum(segment.length or 0 for segment in segments)
    return _unfold(found[0], _columns(sources), sources, whole_groups(length, known))


def whole_groups(layers: int | None, known: Sequence[str] = ()) -> Any:
    """One group for the whole model, and for no other: slices say how many layers it has. `layers` None: for any."""
    if layers is None:
        return WHOLE
    return {
        WHOLE: ("model.embed_tokens.*", f"layers 0-{layers - 1}", "model.norm.*", "lm_head.*", *Names.of(known).outside)
    }


def refuse_other_slices(
    segments: Sequence[Segment], sources: Mapping[Model, str], layers: Callable[[], int | None]
) -> None:
    """Raise RecipeError for slices that do not merge every layer of the models with those of the same index."""
    start = 0
    for number, segment in enumerate(segments):
        for model, low in segment.starts.items():
            # A slice without layers only says what is outside of them, wherever it stands.
            if low != start and segment.length:
                raise RecipeError(
                    f"slices.{number}.sources: layers of {name_of(model)} start at {low}, the output's at {start};"
                    " evovlm merges only layers of the same index (or stacks layers with passthrough)"
                )
        if missing := [name_of(model) for model in sources if model not in segment.scopes]:
            raise RecipeError(f"slices.{number}.sources: {missing} missing; every slice must list every model")
        start += segment.length or 0
    depth = layers()
    if depth is not None and depth != start:
        raise RecipeError(
            f"slices: they have {start} layers and the models {depth}; evovlm merges all layers, or stacks unmerged"
            f" ones with passthrough. Let `layer_range` end at {depth}"
        )


def _columns(sources: Mapping[Model, str]) -> list[tuple[Model, str]]:
    return [(model, name) for model in sources for name in ("weight", "density")]


def _grouped(
    segments: list[Segment], sources: Mapping[Model, str], known: Sequence[str], slerp_base: Model | None
) -> tuple[Grouped, ValuesAt]:
    """Tensors of equal values in groups, and the function that gives a tensor's values."""
    columns = _columns(sources)
    depth = None if segments[0].length is None else sum(segment.length or 0 for segment in segments)
    named = sorted({int(n) for s in segments for text in _filters(s) for n in ONE_LAYER.findall(text)})

    def values_at(tensor: str, layer: int | None) -> Values | None:
        segment, t = _place(segments, tensor, layer)
        values = []
        for model, name in columns:
            value = _value(segment, model, name, tensor, t, slerp_base)
            if value is None:
                # mergekit fails at such a tensor. If layers were named individually, the tensor may not exist.
                if tensor.startswith("model.layers.*") and named:
                    return None
                whose = name_of(model)
                raise Unset("t" if slerp_base else name, whose, f"missing for {whose}, {tensor}; give it a value")
            values.append(value)
        return tuple(values)

    looked = named if depth is None else range(depth)
    return group_tensors(looked, depth is None, values_at, Names.of(known)), values_at


def _agrees(grouped: Grouped, values_at: ValuesAt, known: Sequence[str]) -> bool:
    """Whether the groups give each tensor of the model the values that mergekit's filters give it."""
    if not known:
        return True
    group_of = grouping(grouped.spec, 0)
    return all(grouped.values[group_of(name)] == values_at(name, layer_of(name)) for name in known)


def _refuse_idle(texts: Sequence[str], known: Sequence[str], named: Sequence[str]) -> None:
    """Raise RecipeError for a filter that fits no tensor: it would change nothing, and be thought to.

    `named`: the tensors of the model on this machine (`known`), or those that models elsewhere may have. Tensors that
    usual models have count too, so that a filter for `lm_head` may stay where the head is tied.
    """
    for text in texts:
        layers = {layer for name in known if (layer := layer_of(name)) is not None} or {
            int(number) for number in re.findall(r"\d+", text) if len(number) < 5
        } | {0}
        usual = (f"model.layers.{layer}.{module}" for layer in layers for module in USUAL)
        if not any(text in name for name in (*named, EMBEDDING, FINAL_NORM, OUTPUT_HEAD, *usual)):
            way_out = (
                "correct it or remove it"
                if known
                else "no model is on this machine to look for others; download one first, or remove the filter"
            )
            raise UnfitFilter(text, f"the filter {text!r} is part of no tensor's name; {way_out}")


def _refuse_idle_in_slices(segments: Sequence[Segment], known: Sequence[str]) -> None:
    """Raise RecipeError for a filter of a slice that fits only tensors of layers outside of the slice."""
    start = 0
    for number, segment in enumerate(segments):
        if segment.length is None:
            return
        layers = range(start, start + segment.length)
        names = [name for name in known if (layer := layer_of(name)) is None or layer in layers]
        names += [EMBEDDING, FINAL_NORM, OUTPUT_HEAD]
        names += [f"model.layers.{layer}.{module}" for layer in layers for module in USUAL]
        own = (scope[key] for scope in (*segment.scopes.values(), segment.shared) for key in PLACED if key in scope)
        for text in (text for setting in own for text in filters(setting)):
            if not any(text in name for name in names):
                raise UnfitFilter(
                    text,
                    f"the filter {text!r} fits no tensor of slices.{number}, which has the layers {start} to"
                    f" {start + segment.length - 1}; move it to the slice that it is for, or remove it",
                )
        start += segment.length


def _unfold(
    grouped: Grouped, columns: list[tuple[Model, str]], sources: Mapping[Model, str], one_group: Any
) -> tuple[Any, dict[str, Any]]:
    parameters: dict[str, Any] = {name: {} for name in sources.values()}
    for column, (model, name) in enumerate(columns):
        by_group = {group: values[column] for group, values in grouped.values.items()}
        same = len(set(by_group.values())) == 1
        parameters[sources[model]][name] = next(iter(by_group.values())) if same else by_group
    whole = all(not isinstance(value, dict) for own in parameters.values() for value in own.values())
    return (one_group if whole else grouped.spec), parameters


def _value(segment: Segment, model: Model, name: str, tensor: str, t: float, slerp_base: Model | None) -> float | None:
    if slerp_base is not None:
        if name == "density":
            return 1.0
        share = resolve(segment.of(None), "t", tensor, t)
        return share if share is None or model != slerp_base else 1 - share
    value = resolve(segment.of(model), name, tensor, t)
    return 1.0 if value is None and name == "density" else value


def _place(segments: list[Segment], tensor: str, layer: int | None) -> tuple[Segment, float]:
    """The segment of a tensor and its t. mergekit's t is 0 outside the layers (embeddings, final norm, head)."""
    if layer is None:
        return (segments[0] if tensor.startswith(("model.embed", "model.layers")) else segments[-1]), 0.0
    if segments[0].length is None:
        return segments[0], 0.0
    for segment in segments:
        length = segment.length or 0
        if layer < length:
            return segment, (layer / (length - 1) if length > 1 else 1.0)
        layer -= length
    raise AssertionError("a layer beyond all segments")


def _measured(segments: list[Segment], sources: Mapping[Model, str], layers: Callable[[], int | None]) -> list[Segment]:
    """Segments with known lengths where needed. Raises RecipeError if layers of different indices would be merged."""
    first = segments[0]
    if first.length is None:
        uneven = any(has_gradient(setting) for setting in first.settings()) or any(
            map(_may_name_layers, _filters(first))
        )
        if not uneven:
            return segments
        depth = layers()
        if depth is None:
            raise RecipeError(
                "parameters: a gradient over layers needs the number of layers, and no model is on this machine; give"
                " `slices` with `layer_range`, or use --download once"
            )
        return [replace(first, length=depth)]
    refuse_other_slices(segments, sources, layers)
    return segments


def _may_name_layers(text: str) -> bool:
    """Whether a number in a filter may be a part of several layers' numbers: `layers.1`, `1.mlp`; not `experts.1`."""
    rest = ONE_LAYER.sub("", text)
    return any("model.layers.".endswith(rest[: found.start()]) for found in re.finditer(r"\d+", rest))


def _filters(segment: Segment) -> list[str]:
    return [text for setting in segment.settings() for text in filters(setting)]


def _segment(entries: Iterable[Any], shared: Scope, key: str, known: set[str]) -> Segment:
    """One slice, or all models. known: the names of parameters."""
    scopes: dict[Model, Scope] = {}
    starts: dict[Model, int | None] = {}
    lengths = set()
    for number, entry in enumerate(entries):
        where = f"{key}.{number}" if key == "models" else f"{key}.sources.{number}"
        _refuse_keys(entry, {"model", "parameters"} | ({"layer_range"} if key != "models" else set()), where)
        model = parse_model(entry.get("model"), f"{where}.model")
        if model in scopes:
            raise RecipeError(f"{where}.model: {name_of(model)} is listed twice")
        scopes[model] = entry.get("parameters") or {}
        _refuse_keys(scopes[model], known, f"{where}.parameters")
        starts[model] = None
        if key != "models":
            low, high = _layer_range(entry.get("layer_range"), where)
            starts[model] = low
            lengths.add(high - low)
    if len(lengths) > 1:
        raise RecipeError(f"{key}.sources: layer ranges differ in length")
    return Segment(scopes, starts, lengths.pop() if lengths else None, shared)


def _layer_range(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(edge) is int for edge in value):
        low, high = value
        if 0 <= low <= high <= MOST_LAYERS:
            return low, high
    raise RecipeError(
        f"{where}.layer_range: {value!r} is not [start, stop] with start at most stop, of at most {MOST_LAYERS} layers"
    )


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RecipeError(f"{key}: must be a list with at least one entry")
    return value


def _refuse_keys(entry: Any, known: set[str], key: str) -> None:
    if not isinstance(entry, dict):
        raise RecipeError(f"{key}: must be a mapping, with keys from {sorted(known)}")
    for name in entry:
        if name not in known:
            raise RecipeError(f"{key}.{name}: not supported by evovlm; it reads {sorted(known)}")
