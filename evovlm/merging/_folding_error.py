"""Measures the error of folding a route's scales into plain weights: the plain model's logits against the routed ones.

Knows assemblies and transformers' decoder layers; writes nothing. Only one layer is in memory at a time, so a large
model can be measured on the machine that merges it. Both models read the same random tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly, stacked_kinds, tower_tensor
from evovlm.merging.tensor_jobs import Job
from evovlm.models.layouts import EMBEDDING, FINAL_NORM, OUTPUT_HEAD
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.route import Step

TOKENS = 32
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
    """Run the routed and the folded model side by side in float32, layer by layer, and compare their logits."""
    rows = assembly.owner.checkpoint.shape(assembly.owner.tower[EMBEDDING])[0]
    tokens = torch.randint(rows, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    probe = _Probe(assembly)
    start = tower_tensor(assembly.owner, EMBEDDING)[tokens].float()
    routed, exact, rounded = start, start.clone(), start.clone()
    kinds: Sequence[str | None] = stacked_kinds(assembly) or [None] * len(assembly.recipe.route)
    for step, kind, jobs in zip(assembly.recipe.route, kinds, _by_layer(assembly), strict=True):
        sources = {job.name: probe.source(job) for job in jobs}
        routed = probe.layer(sources, routed * step.scale, kind)
        folded = {job.name: sources[job.name] * job.factor for job in jobs}
        exact = probe.layer(folded, exact, kind)
        stored = {name: tensor.to(assembly.dtype).float() for name, tensor in folded.items()}
        rounded = probe.layer(stored, rounded, kind)
    head = assembly.owner
    norm, table = tower_tensor(head, FINAL_NORM).float(), tower_tensor(head, OUTPUT_HEAD).float()
    sign = next((job.factor for job in assembly.jobs if job.name == FINAL_NORM), 1.0)
    truth = probe.logits(routed, norm, table)
    return FoldError(
        epsilon=float((probe.logits(exact, norm * sign, table) - truth).abs().max()),
        rounded=float((probe.logits(rounded, norm * sign, table) - truth).abs().max()),
        spread=float(truth.std()),
    )


def has_scales(route: tuple[Step, ...]) -> bool:
    """Whether any step has a scale other than 1, so that there is something to fold."""
    return any(step.scale != 1.0 for step in route)


class _Probe:
    """One decoder layer of the owner's architecture, whose weights are replaced for each layer measured."""

    def __init__(self, assembly: Assembly) -> None:
        from transformers import AutoConfig

        self._assembly = assembly
        self._config = AutoConfig.from_pretrained(assembly.owner.folder).get_text_config()
        self._config.num_hidden_layers = 1
        self._decoders: dict[str | None, Any] = {}
        self._epsilon = float(self._config.rms_norm_eps)

    def _decoder(self, kind: str | None) -> Any:
        """A one-layer decoder with that kind of attention, without weights."""
        from transformers import AutoModelForCausalLM

        if kind not in self._decoders:
            config = copy.deepcopy(self._config)
            if kind is not None:
                config.layer_types = [kind]
            with torch.device("meta"):
                skeleton: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            decoder = skeleton.model
            decoder.rotary_emb = type(decoder.rotary_emb)(config=config)
            decoder.embed_tokens, decoder.norm = None, torch.nn.Identity()
            self._decoders[kind] = decoder.eval().requires_grad_(False)
        return self._decoders[kind]

    def source(self, job: Job) -> Tensor:
        """The source tensor of a job, in float32."""
        (source, name), *_ = job.parts
        return tower_tensor(self._assembly.sources[source], name).float()

    def layer(self, weights: Weights, stream: Tensor, kind: str | None) -> Tensor:
        """Return the stream [1, tokens, hidden] after a layer with these weights (canonical names of any layer)."""
        named = {name.split(".", 3)[3]: tensor for name, tensor in weights.items()}
        decoder = self._decoder(kind)
        decoder.layers[0].load_state_dict(named, assign=True)
        out: Tensor = decoder(inputs_embeds=stream, use_cache=False).last_hidden_state
        return out

    def logits(self, stream: Tensor, norm: Tensor, table: Tensor) -> Tensor:
        """Apply final norm and head; returns logits [1, tokens, vocabulary]."""
        scale = torch.rsqrt(stream.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return torch.nn.functional.linear(stream * scale * norm, table)


def _by_layer(assembly: Assembly) -> Iterator[list[Job]]:
    """Yield the jobs of each layer of the output, in layer order."""
    numbered = sorted(
        ((layer, job) for job in assembly.jobs if (layer := layer_of(job.name)) is not None), key=lambda pair: pair[0]
    )
    for _, pairs in groupby(numbered, key=lambda pair: pair[0]):
        yield [job for _, job in pairs]
