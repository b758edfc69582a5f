"""Train the zoo from scratch: the base model, the vision tower, and the fine-tunes.

Knows each model's training data and schedule. Run `python -m evovlm.zoo.train --out DIR --seed N` or
`evovlm zoo train`. The same seed and device give the same data and batches; on a GPU the weights may differ in the last
bits, because CUDA adds in no fixed order.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from evovlm.models.zoo_models import ZOO_MODELS, write_manifest
from evovlm.system.device import check_device, current_gpu
from evovlm.system.errors import UserError
from evovlm.system.units import duration
from evovlm.zoo import _corpus as corpus
from evovlm.zoo._ahead import Order, Pools
from evovlm.zoo._export import save_llm, save_vlm
from evovlm.zoo._fit import Schedule, fit
from evovlm.zoo._network import Shape, init_eyes, init_tower
from evovlm.zoo._plan import OverTuned, Plan, Stage, eyes_only
from evovlm.zoo._tokenizer import train_tokenizer
from evovlm.zoo._unfinished import Unfinished, clear, finish, is_finished, unfinished
from evovlm.zoo.medium.plan import medium_plan
from evovlm.zoo.render import render

Weights = dict[str, Tensor]
Advance = Callable[[str, int, int], None]
TOKENIZER_TEXTS = 20_000
# Layers that a fine-tune may over-train: at one end for the maths models, in alternating blocks for `ja` and `vlm`.
EARLY, LATE = (0, 1, 2), (5, 6, 7)
EVEN, ODD = (0, 1, 4, 5), (2, 3, 6, 7)


def small_plan() -> Plan:
    """The plan of the zoo that ships with the package."""
    stages = {
        "base": Stage(corpus.base_mixture, 500_000, Schedule(6000, 2e-3)),
        "align": Stage(corpus.align_mixture, 80_000, Schedule(3000, 1e-3, rates=eyes_only)),
        "vlm": Stage(corpus.vlm_mixture, 60_000, Schedule(600, 4e-4, rates=OverTuned(10.0, ODD, head=True))),
        "ja": Stage(corpus.ja_mixture, 40_000, Schedule(400, 4e-4, rates=OverTuned(10.0, EVEN, head=False))),
        "math": Stage(corpus.math_mixture, 20_000, Schedule(400, 5e-4, 64, OverTuned(4.0, LATE, head=True))),
        "math2": Stage(corpus.math2_mixture, 20_000, Schedule(400, 5e-4, 64, OverTuned(4.0, EARLY, head=False))),
    }
    return Plan(Shape(vocabulary=0), stages, render)


PLANS: dict[str, Callable[[], Plan]] = {"small": small_plan, "medium": medium_plan}


@dataclass
class Trainer:
    """Runs a plan's stages, each once. `scale` multiplies steps and examples; `report` gets progress lines."""

    plan: Plan
    seed: int
    device: torch.device
    scale: float = 1.0
    report: Callable[[str], None] = print
    processes: int = 1
    kept: Unfinished | None = None  # keeps finished stages
    progress: Advance = lambda name, done, total: None
    seconds: float = 0.0  # that the stages took, those of earlier runs included

    def __post_init__(self) -> None:
        texts = corpus.draw(self.plan.stages["base"].mixture(), TOKENIZER_TEXTS, "tokenizer")
        self.tokenizer: Tokenizer = train_tokenizer(example.prompt + example.answer for example in texts)
        self.shape = replace(self.plan.shape, vocabulary=self.tokenizer.get_vocab_size())

    def draw(self, names: Sequence[str]) -> Pools:
        """The pools of those stages that are not finished: created on demand, or at once with several processes."""
        missing = [name for name in names if self.kept is None or not self.kept.has(name)]
        return Pools({name: self._order(name) for name in missing}, self.processes)

    def _order(self, name: str) -> Order:
        stage = self.plan.stages[name]
        count = max(64, round(stage.examples * self.scale))
        seed, shape = f"{name}/{self.seed}", self.shape
        return Order(stage.mixture(), count, seed, self.tokenizer, self.plan.render, shape.image)

    def run(self, name: str, weights: Weights, pools: Pools) -> Weights:
        """Train one stage, starting from the given weights; returns the new weights (float32, on the CPU).

        A stage that an earlier run finished is read instead.
        """
        known = None if self.kept is None else self.kept.stage(name)
        if known is not None:
            self.seconds += known[1]
            self.report(f"{name}: trained before, in {duration(known[1])}")
            return dict(known[0])
        stage, started = self.plan.stages[name], time.monotonic()
        self.progress(f"{name}: data", 0, 0)
        pool = pools.take(name)
        waited = time.monotonic() - started
        schedule = replace(stage.schedule, steps=max(2, round(stage.schedule.steps * self.scale)))
        seed = self.seed * 100 + list(self.plan.stages).index(name)
        with current_gpu(self.device):
            tuned = fit(
                weights,
                self.shape,
                pool,
                schedule,
                seed=seed,
                device=self.device,
                report=self.report,
                advance=partial(self.progress, name),
                label=name,
            )
        trained = time.monotonic() - started - waited
        self.seconds += waited + trained
        if self.kept is not None:
            self.kept.keep(name, tuned, waited + trained)
        self.report(f"{name}: {len(pool.ids)} examples ready after {duration(waited)}, trained in {duration(trained)}")
        return tuned

    def base(self, pools: Pools) -> Weights:
        """Train the base model, the common ancestor of the others."""
        rng = torch.Generator().manual_seed(self.seed)
        return self.run("base", init_tower(self.shape, rng), pools)

    def align(self, base: Weights, pools: Pools) -> Weights:
        """Train a vision tower and projector in front of the frozen base; returns all weights."""
        rng = torch.Generator().manual_seed(self.seed + 1_000_000)
        return self.run("align", {**base, **init_eyes(self.shape, rng)}, pools)


def train_zoo(
    out: Path,
    *,
    size: str = "small",
    seed: int = 0,
    device: str | None = None,
    scale: float = 1.0,
    models: Sequence[str] = ZOO_MODELS,
    processes: int = 1,
    report: Callable[[str], None] = print,
    progress: Advance = lambda name, done, total: None,
) -> None:
    """Train models of the zoo and write them, with a manifest, under `out`, which appears complete or not at all.

    Call it again to continue after the last finished stage; nothing is done if `out` is complete.

    `size`: small, as shipped, or medium, over twenty times as large and with a harder world. `scale` below 1 shortens
    every stage and its data. `device` defaults to a GPU if there is one. With `processes` above 1, the stages' data are
    generated in parallel ahead of the training; the data are the same. `report` gets sentences, `progress` the name of
    what is done, the steps done and their total (0: not known). Raises UserError for an unknown size or model, a
    missing device, an `out` that is something else, or training with other settings that was left unfinished.
    """
    unknown = sorted(set(models) - set(ZOO_MODELS))
    if unknown:
        raise UserError(f"zoo train: unknown model {', '.join(unknown)}; choose from {', '.join(ZOO_MODELS)}")
    if size not in PLANS:
        raise UserError(f"zoo train: unknown size {size!r}; choose from {', '.join(PLANS)}")
    command = _command(size, seed, scale)
    if is_finished(out, command, tuple(models)):
        clear(out)
        report(f"{out}: these models are there already")
        return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and is not the zoo that this command makes; choose another folder with --out")
    chosen = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings = {"command": command, "models": list(models), "device": chosen.type, "torch": torch.__version__}
    with unfinished(out, settings) as work:
        trainer = Trainer(PLANS[size](), seed, chosen, scale, report, processes, work, progress)
        trained = _train(trainer, models)

        def fill(folder: Path) -> None:
            for name, weights in trained.items():
                save = save_vlm if name == "vlm" else save_llm
                save(folder / name, weights, trainer.shape, trainer.tokenizer)
            write_manifest(folder, tuple(models), _provenance(trainer, size))

        finish(work, out, fill)
    report(f"{len(models)} models in {out}, {duration(trainer.seconds)}")


def _train(trainer: Trainer, models: Sequence[str]) -> dict[str, Weights]:
    """The weights of the given models, by name."""
    pools = trainer.draw(_stages(models))
    try:
        base = trainer.base(pools)
        trained = {}
        for name in models:
            if name == "vlm":
                trained[name] = trainer.run(name, trainer.align(base, pools), pools)
            else:
                trained[name] = base if name == "base" else trainer.run(name, base, pools)
        return trained
    finally:
        pools.close()


def _command(size: str, seed: int, scale: float) -> str:
    return f"evovlm zoo train --out DIR --size {size} --seed {seed} --scale {scale:g}"


def _stages(models: Sequence[str]) -> list[str]:
    """The stages that the given models need, in training order."""
    descent: dict[str, list[str]] = {"base": [], "vlm": ["align", "vlm"]}
    return ["base", *(stage for name in models for stage in descent.get(name, [name]))]


def _provenance(trainer: Trainer, size: str) -> dict[str, object]:
    on_gpu = trainer.device.type == "cuda"
    return {
        "command": _command(size, trainer.seed, trainer.scale),
        "size": size,
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
        "hardware": torch.cuda.get_device_name(trainer.device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "minutes": round(trainer.seconds / 60, 1),
    }


def main() -> None:
    """The trainer's command line."""
    parser = argparse.ArgumentParser(description=train_zoo.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="small", choices=list(PLANS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(ZOO_MODELS))
    given = parser.parse_args()
    train_zoo(**vars(given))


if __name__ == "__main__":
    main()
