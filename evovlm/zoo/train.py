"""Trains the zoo from nothing: ancestor, eyes, and the tunes that descend from it.

Knows which model is taught what, for how long and how fast. `python -m evovlm.zoo.train --out DIR --seed N` or
`evovlm zoo train`. The same seed and device give the same data and batches; on a GPU the weights may differ in the
last bits, for CUDA adds in no fixed order.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from evovlm.errors import UserError
from evovlm.groups import layer_of
from evovlm.zoo import corpus
from evovlm.zoo.export import save_llm, save_vlm
from evovlm.zoo.fit import Schedule, fit
from evovlm.zoo.manifest import ZOO_MODELS, write_manifest
from evovlm.zoo.network import HEAD, Shape, init_eyes, init_tower
from evovlm.zoo.pools import make_pool
from evovlm.zoo.tokenizer import train_tokenizer

Weights = dict[str, Tensor]
Mixture = Mapping[corpus.Task, float]
TOKENIZER_TEXTS = 20_000
EARLY, LATE = (0, 1, 2), (5, 6, 7)  # the layers that a tune may be too eager in


def tower_only(name: str) -> bool:
    """Whether a tensor belongs to the language tower."""
    return name.startswith(("model.", "lm_head."))


def eyes_only(name: str) -> float:
    """Rates that freeze the language tower."""
    return 0.0 if tower_only(name) else 1.0


@dataclass(frozen=True)
class OverTuned:
    """Rates that tune some layers (and the output head) `factor` times as fast as the rest.

    Real tunes have parts that harm in company; these give the zoo's theirs, in known places.
    """

    factor: float
    layers: tuple[int, ...]
    head: bool

    def __call__(self, name: str) -> float:
        """The factor of one tensor's learning rate."""
        return self.factor if layer_of(name) in self.layers or (self.head and name == HEAD) else 1.0


@dataclass(frozen=True)
class Stage:
    """One training: what to learn, from how many examples, how long and how fast."""

    mixture: Callable[[], Mixture]
    examples: int
    schedule: Schedule


def _stages() -> dict[str, Stage]:
    return {
        "base": Stage(corpus.base_mixture, 500_000, Schedule(6000, 2e-3)),
        "align": Stage(corpus.align_mixture, 80_000, Schedule(3000, 1e-3, rates=eyes_only)),
        "vlm": Stage(corpus.vlm_mixture, 60_000, Schedule(600, 4e-4, rates=OverTuned(6.0, LATE, head=True))),
        "ja": Stage(corpus.ja_mixture, 40_000, Schedule(400, 4e-4, rates=OverTuned(6.0, EARLY, head=False))),
        "math": Stage(corpus.math_mixture, 20_000, Schedule(400, 5e-4, 64, OverTuned(4.0, LATE, head=True))),
        "math2": Stage(corpus.math2_mixture, 20_000, Schedule(400, 5e-4, 64, OverTuned(4.0, EARLY, head=False))),
    }


@dataclass(frozen=True)
class Plan:
    """The zoo's recipe: the models' shape and every stage."""

    shape: Shape = Shape(vocabulary=0)  # the tokenizer says how many
    stages: Mapping[str, Stage] = field(default_factory=_stages)


@dataclass
class Trainer:
    """Runs a plan's stages in order of descent, each once."""

    plan: Plan
    seed: int
    device: torch.device
    scale: float = 1.0
    report: Callable[[str], None] = print

    def __post_init__(self) -> None:
        texts = corpus.draw(corpus.base_mixture(), TOKENIZER_TEXTS, "tokenizer")
        self.tokenizer: Tokenizer = train_tokenizer(example.prompt + example.answer for example in texts)
        self.shape = replace(self.plan.shape, vocabulary=self.tokenizer.get_vocab_size())

    def run(self, name: str, weights: Weights) -> Weights:
        """Train one stage from some weights."""
        stage, started = self.plan.stages[name], time.monotonic()
        count = max(64, round(stage.examples * self.scale))
        pool = make_pool(corpus.draw(stage.mixture(), count, f"{name}/{self.seed}"), self.tokenizer)
        drawn = time.monotonic() - started
        schedule = replace(stage.schedule, steps=max(2, round(stage.schedule.steps * self.scale)))
        seed = self.seed * 100 + list(self.plan.stages).index(name)
        tuned = fit(weights, self.shape, pool, schedule, seed=seed, device=self.device, report=self.report, label=name)
        self.report(
            f"{name}: {len(pool.ids)} examples in {drawn:.0f} s, trained {time.monotonic() - started - drawn:.0f} s"
        )
        return tuned

    def base(self) -> Weights:
        """The common ancestor."""
        rng = torch.Generator().manual_seed(self.seed)
        return self.run("base", init_tower(self.shape, rng))

    def align(self, base: Weights) -> Weights:
        """The ancestor, unchanged, with eyes trained in front of it."""
        rng = torch.Generator().manual_seed(self.seed + 1_000_000)
        return self.run("align", {**base, **init_eyes(self.shape, rng)})


def train_zoo(
    out: Path,
    *,
    seed: int = 0,
    device: str | None = None,
    scale: float = 1.0,
    models: Sequence[str] = ZOO_MODELS,
    report: Callable[[str], None] = print,
) -> None:
    """Train models of the zoo and write them, with a manifest, under `out`.

    `scale` below 1 shortens every stage and its data; `device` is a GPU if there is one, unless named. Raises
    UserError for an unknown model and for an `out` that exists and is not empty.
    """
    unknown = sorted(set(models) - set(ZOO_MODELS))
    if unknown:
        raise UserError(f"zoo train: no model {', '.join(unknown)}; choose from {', '.join(ZOO_MODELS)}")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: exists and is not empty; choose another folder")
    started = time.monotonic()
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trainer = Trainer(Plan(), seed, chosen, scale, report)
    base = trainer.base()
    for name in models:
        if name == "vlm":
            save_vlm(out / name, trainer.run("vlm", trainer.align(base)), trainer.shape, trainer.tokenizer)
        else:
            weights = base if name == "base" else trainer.run(name, base)
            save_llm(out / name, weights, trainer.shape, trainer.tokenizer)
    minutes = (time.monotonic() - started) / 60
    write_manifest(out, tuple(models), _provenance(trainer, minutes))
    report(f"{len(models)} models in {out}, {minutes:.1f} minutes")


def _provenance(trainer: Trainer, minutes: float) -> dict[str, object]:
    on_gpu = trainer.device.type == "cuda"
    return {
        "command": f"python -m evovlm.zoo.train --out DIR --seed {trainer.seed} --scale {trainer.scale:g}",
        "seed": trainer.seed,
        "stages": {
            name: {
                "examples": stage.examples,
                "steps": stage.schedule.steps,
                "batch": stage.schedule.batch,
                "rate": stage.schedule.rate,
                "over_tuned": vars(stage.schedule.rates) if isinstance(stage.schedule.rates, OverTuned) else None,
            }
            for name, stage in trainer.plan.stages.items()
        },
        "scale": trainer.scale,
        "hardware": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "minutes": round(minutes, 1),
    }


def main() -> None:
    """The command line of the trainer."""
    parser = argparse.ArgumentParser(description=train_zoo.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--models", nargs="+", default=list(ZOO_MODELS))
    given = parser.parse_args()
    train_zoo(given.out, seed=given.seed, device=given.device, scale=given.scale, models=given.models)


if __name__ == "__main__":
    main()
