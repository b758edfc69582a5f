"""Measures the error of folding a route's scales into plain weights: the plain model's logits against the routed ones.

Knows assemblies and transformers' models; writes nothing. Only one layer is in memory at a time, so a large model can
be measured on the machine that merges it. Everything else (embeddings, masks, final norm, head) is transformers' own
forward pass, so that no family's habits are left out. Both models read the same random tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from evovlm.merging._causal_config import causal_config
from evovlm.merging._folding import fold, lost_share
from evovlm.merging._norm_offsets import norm_offset
from evovlm.merging.assembly import Assembly, tower_tensor
from evovlm.merging.check.stacks import stack_of, stacked_kinds
from evovlm.merging.tensor_jobs import Job, route_jobs
from evovlm.models.experts import by_expert
from evovlm.models.layouts import EMBEDDING, FINAL_NORM, OUTPUT_HEAD
from evovlm.models.open_model import OpenModel
from evovlm.models.vocabulary import name_some
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.route import Step
from evovlm.system.errors import RecipeError, UserError

TOKENS = 32
# With the norms' epsilon left out, folding is exact but for float32 rounding, if it is right for the family at all.
LARGEST_INEXACTNESS = 1e-2
# Beyond this share of the logits' spread, the plain model is another model than the route.
LARGEST_ERROR = 1.0
# Rounding to bfloat16 is an error of 0.2 %, to float16 of 0.02 %; beyond this, weights are losing their digits.
LARGEST_LOSS = 1e-2
# The scales of the trial: either sign, and the stream larger and smaller than it was.
TRIAL_SCALES = (-1.5, 0.4)
# Qwen3-VL's projectors of such features, one for each layer after which they are added.
DEEP_FEATURES = re.compile(r"\bdeepstack_merger_list\.(\d+)\.")
WAY_OUT = "search with `scales: none`, or keep the route and leave out `--checkpoint`"
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class FoldError:
    """Largest absolute differences from the routed model's logits, over `TOKENS` random tokens.

    epsilon: with the folded weights in float32, so only the effect of the norms' epsilon remains. rounded: with the
    weights rounded to the stored dtype. spread: the standard deviation of the routed model's logits, for comparison.
    """

    epsilon: float
    rounded: float
    spread: float

    def in_words(self, dtype: str) -> str:
        """Return one sentence for the terminal and the model card."""
        return (
            f"scales folded into the weights: logits differ from the routed model's by at most {self.epsilon:.2g}"
            f" because of the norms' epsilon, and by {self.rounded:.2g} with weights rounded to {dtype}"
            f" (standard deviation of the logits: {self.spread:.2g})"
        )


@torch.inference_mode()
def fold_error(assembly: Assembly) -> FoldError:
    """Run the routed and the folded model in float32, a layer at a time, and compare their logits.

    Raises RecipeError if transformers cannot run the family's layers one by one.
    """
    probe = _Probe(assembly)
    truth = probe.routed()
    exact = probe.folded(lambda tensor: tensor)
    rounded = probe.folded(lambda tensor: tensor.to(assembly.dtype).float())
    return FoldError(
        epsilon=float((exact - truth).abs().max()),
        rounded=float((rounded - truth).abs().max()),
        spread=float(truth.std()),
    )


@torch.inference_mode()
def refuse_unfoldable(assembly: Assembly) -> None:
    """Raise RecipeError if scales cannot be folded into weights of the owner's family: tried on its first layers.

    The norms' epsilon is left out, so that what remains is either rounding or a family that computes otherwise.
    """
    owner = next(name for name, model in assembly.sources.items() if model is assembly.owner)
    depth = 1 + max(layer for name in assembly.owner.tower if (layer := layer_of(name)) is not None)
    steps = tuple(
        Step(source=owner, layer=layer, scale=scale) for layer, scale in zip(range(depth), TRIAL_SCALES, strict=False)
    )
    recipe = assembly.recipe.model_copy(update={"route": steps, "slices": ()})
    trial = replace(assembly, recipe=recipe, jobs=tuple(route_jobs(steps, assembly.owner, assembly.sources)))
    probe = _Probe(trial, epsilon=False)
    truth = probe.routed()
    error = float((probe.folded(lambda tensor: tensor) - truth).abs().max()) / float(truth.std())
    if not error <= LARGEST_INEXACTNESS:
        kind = assembly.owner.text_config.get("model_type")
        raise RecipeError(
            f"route: scales cannot be folded into the weights of this architecture ({kind}): logits would differ by"
            f" {error:.2g} of their standard deviation; {WAY_OUT}"
        )


def refuse_lost(assembly: Assembly) -> None:
    """Raise RecipeError, naming the first tensor, if scales folded into the weights leave the range of their dtype."""
    for job in assembly.jobs:
        if abs(job.factor) == 1.0:
            continue
        (source, name), *_ = job.parts
        tensor = tower_tensor(assembly.sources[source], name)
        lost = lost_share(tensor, job.factor, norm_offset(assembly.owner.folder, job.name), assembly.dtype)
        if lost > LARGEST_LOSS:
            dtype = assembly.recipe.dtype
            wider = "" if dtype == "float32" else ", set `dtype: float32`"
            raise RecipeError(
                f"route: {job.name} has to be multiplied by {job.factor:.3g} to fold the scales into the weights, and"
                f" {dtype} stores the result {_in_words(lost)}; choose scales whose product is closer to 1{wider},"
                f" or {WAY_OUT}"
            )


def deep_features(model: OpenModel) -> int:
    """After how many of its first layers a model adds features of the picture to the stream (Qwen3-VL's deepstack)."""
    numbers = {found[1] for key in model.checkpoint.keys() if (found := DEEP_FEATURES.search(key)) is not None}
    return len(numbers)


def refuse_deep_features(owner: OpenModel, unscaled: int) -> None:
    """Raise RecipeError if scales come before features of the picture that the vision part adds to the stream.

    `unscaled`: the number of steps before the first scale.
    """
    deep = deep_features(owner)
    if unscaled < deep:
        raise RecipeError(
            f"route: {owner.label} adds features of the picture to the stream after each of its first {deep} layers,"
            f" which scales folded into the weights do not reach; leave the first {deep} steps without a scale (in a"
            f" search: `prefix: {{source: {owner.label}, layers: {deep}}}`), or {WAY_OUT}"
        )


def _in_words(lost: float) -> str:
    return f"with an error of {lost:.1%}" if math.isfinite(lost) else "as infinity"


def refuse_error(error: FoldError, dtype: str) -> None:
    """Raise RecipeError if the plain model, with weights stored as `dtype`, would not be the routed one."""
    if not (math.isfinite(error.epsilon) and math.isfinite(error.rounded)):
        raise RecipeError("route: weights with the scales folded in are not finite; choose scales closer to 1")
    if error.epsilon > LARGEST_ERROR * error.spread:
        raise RecipeError(
            f"route: with the scales folded in, logits would differ by {error.epsilon:.2g} from the route's (standard"
            f" deviation {error.spread:.2g}), because the stream becomes so small beside the norms' epsilon; choose"
            f" scales whose product is closer to 1, or {WAY_OUT}"
        )
    if error.rounded > LARGEST_ERROR * error.spread:
        raise RecipeError(
            f"route: with the scales folded in and the weights rounded to {dtype}, logits would differ by"
            f" {error.rounded:.2g} from the route's (standard deviation {error.spread:.2g}); set `dtype: float32`, or"
            f" {WAY_OUT}"
        )


def has_scales(route: tuple[Step, ...]) -> bool:
    """Whether any step has a scale other than 1, so that there is something to fold."""
    return any(step.scale != 1.0 for step in route)


class _Lent(nn.Module):
    """One step: a shared layer that takes this step's weights when it is reached, and the scale before it."""

    def __init__(self, shell: nn.Module, weights: Callable[[], Weights], scale: float) -> None:
        super().__init__()
        self.shell, self._weights, self._scale = shell, weights, scale

    def __getattr__(self, name: str) -> Any:
        """Whatever decoders ask of their layers, such as the kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("shell"), name)

    def forward(self, hidden: Tensor, *more: Any, **context: Any) -> Any:
        weights = self._weights()
        places = by_expert(self.shell.named_parameters())
        if weights.keys() != places.keys():
            raise RuntimeError(f"its layers have {name_some(sorted(weights.keys() ^ places.keys()))} besides")
        for name, place in places.items():
            place.data.copy_(weights[name])
        return self.shell(hidden * self._scale, *more, **context)


class _Probe:
    """The owner's architecture with one layer per kind of attention, whose weights are lent to it layer by layer."""

    def __init__(self, assembly: Assembly, *, epsilon: bool = True) -> None:
        self._assembly = assembly
        self._jobs = list(_by_layer(assembly))
        route = assembly.recipe.route
        found = stacked_kinds(stack_of(assembly.recipe), assembly.owner, assembly.sources)
        kinds: Sequence[str | None] = found or [None] * len(route)
        tokens = torch.randint(
            len(tower_tensor(assembly.owner, EMBEDDING)), (TOKENS,), generator=torch.Generator().manual_seed(0)
        )
        with _explained(assembly), torch.random.fork_rng(devices=()):
            config = causal_config(assembly.owner.folder)
            if kinds[0] is None and getattr(config, "layer_types", None):
                kinds = ["full_attention"] * len(kinds)  # of a kind that stands for one without kinds of attention
            self._model, self._shells = _hollow(config, kinds)
        self._kinds = kinds
        # Only the rows of the random tokens are needed, and the model calls them 0, 1, 2, ...
        table = tower_tensor(assembly.owner, EMBEDDING)[tokens].float()
        self._model.get_input_embeddings().weight = nn.Parameter(table, requires_grad=False)
        head = tower_tensor(assembly.owner, OUTPUT_HEAD).float()
        self._model.get_output_embeddings().weight = nn.Parameter(head, requires_grad=False)
        if not epsilon:
            _drop_epsilons([self._model.model.norm, *self._shells.values()])

    def routed(self) -> Tensor:
        """The route's own logits: float32 [1, tokens, vocabulary]."""
        route = self._assembly.recipe.route
        layers = [
            _Lent(self._shells[kind], lambda jobs=jobs: self._weights(jobs, folded=False), step.scale)  # type: ignore[misc]
            for step, kind, jobs in zip(route, self._kinds, self._jobs, strict=True)
        ]
        return self._logits(layers, tower_tensor(self._assembly.owner, FINAL_NORM).float())

    def folded(self, stored: Callable[[Tensor], Tensor]) -> Tensor:
        """The folded model's logits; `stored`: what storing does to a tensor."""
        layers = [
            _Lent(self._shells[kind], lambda jobs=jobs: self._weights(jobs, stored), 1.0)  # type: ignore[misc]
            for kind, jobs in zip(self._kinds, self._jobs, strict=True)
        ]
        job = next((job for job in self._assembly.jobs if job.name == FINAL_NORM), None)
        norm = tower_tensor(self._assembly.owner, FINAL_NORM).float() if job is None else self._folded(job)
        return self._logits(layers, norm)

    def _logits(self, layers: list[_Lent], norm: Tensor) -> Tensor:
        decoder = self._model.model
        decoder.layers = nn.ModuleList(layers)
        decoder.norm.weight = nn.Parameter(norm, requires_grad=False)
        with _explained(self._assembly):
            logits: Tensor = self._model(input_ids=torch.arange(TOKENS)[None], use_cache=False).logits
        return logits.float()

    def _weights(
        self, jobs: Sequence[Job], stored: Callable[[Tensor], Tensor] = lambda tensor: tensor, *, folded: bool = True
    ) -> Weights:
        """A layer's weights by their names within it."""
        return {job.name.split(".", 3)[3]: stored(self._folded(job)) if folded else self._source(job) for job in jobs}

    def _source(self, job: Job) -> Tensor:
        (source, name), *_ = job.parts
        return tower_tensor(self._assembly.sources[source], name).float()

    def _folded(self, job: Job) -> Tensor:
        offset = 0.0 if job.factor == 1.0 else norm_offset(self._assembly.owner.folder, job.name)
        return fold(self._source(job), job.factor, offset)


@contextmanager
def _explained(assembly: Assembly) -> Iterator[None]:
    """Turn transformers' faults at a family whose layers it cannot run one by one into a sentence."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as fault:
        if "can't allocate memory" in str(fault):
            raise
        kind = assembly.owner.text_config.get("model_type")
        told = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
        raise RecipeError(
            f"route: whether scales can be folded into the weights of this architecture ({kind}) cannot be tried"
            f" ({told}); {WAY_OUT}"
        ) from fault


def _hollow(config: Any, kinds: Sequence[str | None]) -> tuple[Any, dict[str | None, nn.Module]]:
    """A language model of a configuration with few rows, and one layer per kind of attention."""
    from transformers import AutoModelForCausalLM

    different = list(dict.fromkeys(kinds))
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = len(different), TOKENS, None
    if different != [None]:
        config.layer_types = different
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model = model.eval().requires_grad_(False)
    shells = dict(zip(different, model.model.layers, strict=True))
    model.config.num_hidden_layers = len(kinds)
    if different != [None]:
        model.config.layer_types = list(kinds)
    return model, shells


def _drop_epsilons(parts: Sequence[nn.Module]) -> None:
    for part in parts:
        for module in part.modules():
            for name in ("variance_epsilon", "eps"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)


def _by_layer(assembly: Assembly) -> Iterator[list[Job]]:
    """Yield the jobs of each layer of the output, in layer order."""
    numbered = sorted(
        ((layer, job) for job in assembly.jobs if (layer := layer_of(job.name)) is not None), key=lambda pair: pair[0]
    )
    for _, pairs in groupby(numbered, key=lambda pair: pair[0]):
        yield [job for _, job in pairs]
