"""Train named tensors on a pool of examples: AdamW, warm-up and cosine decay, one CUDA graph per step on a GPU.

Knows examples as token ids and pixels; no language, no files, no mixtures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evovlm.models.layouts import OUTPUT_HEAD
from evovlm.zoo._network import Shape, embed, read, see

IGNORED = -100
WARM_UP = 0.05  # of the steps
LAST_RATE = 0.02  # of the peak


@dataclass(frozen=True)
class Pool:
    """Examples, padded on the right: ids and labels [count, length]; with images also pixels and each row's image."""

    ids: Tensor  # int16 or wider
    labels: Tensor  # same dtype; IGNORED outside the answers
    pixels: Tensor | None = None  # uint8 [images, 3, side, side]
    image: Tensor | None = None  # int64 [count]: row of `pixels`

    def to(self, device: torch.device) -> Pool:
        """The same pool on a device."""
        moved = [None if part is None else part.to(device) for part in (self.ids, self.labels, self.pixels, self.image)]
        assert moved[0] is not None
        assert moved[1] is not None
        return Pool(moved[0], moved[1], moved[2], moved[3])


@dataclass(frozen=True)
class Schedule:
    """Steps, peak learning rate and batch size; `rates` scales the rate by tensor name, where 0 freezes a tensor."""

    steps: int
    rate: float
    batch: int = 256
    rates: Callable[[str], float] = lambda name: 1.0


def scale_pixels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale bytes to -1..1, as the processor does (mean and standard deviation 0.5)."""
    return (pixels.to(dtype) / 127.5) - 1.0


def loss_of(weights: Mapping[str, Tensor], shape: Shape, pool: Pool, rows: Tensor) -> Tensor:
    """Mean cross-entropy (a scalar) over the answer tokens in the given rows of a pool."""
    features = None
    if pool.pixels is not None and pool.image is not None:
        dtype = weights[OUTPUT_HEAD].dtype
        features = see(weights, shape, scale_pixels(pool.pixels[pool.image[rows]], dtype))
    ids, labels = pool.ids[rows].long(), pool.labels[rows].long()
    states = read(weights, shape, embed(weights, ids, features))
    if features is not None:
        states = states[:, features.shape[1] :]
    logits = F.linear(states[:, :-1], weights[OUTPUT_HEAD]).float()
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def fit(
    weights: Mapping[str, Tensor],
    shape: Shape,
    pool: Pool,
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    report: Callable[[str], None] = print,
    advance: Callable[[int, int], None] | None = None,
    label: str = "",
) -> dict[str, Tensor]:
    """Train and return new float32 weights on the CPU; the given weights are not changed.

    Computes in bfloat16 on a GPU, in float32 on a CPU. The same seed and device give the same batches; CUDA's atomic
    additions may still differ in the last bit. `report` gets progress lines. `advance` is called after each
    step with the number of steps done and their total.
    """
    master = {name: tensor.detach().to(device, torch.float32, copy=True) for name, tensor in weights.items()}
    rates = {name: schedule.rates(name) for name in master}
    tuned = [name for name in master if rates[name] > 0]
    for name in tuned:
        master[name].requires_grad_(True)
    on_gpu = device.type == "cuda"
    groups = [
        {"params": [master[name] for name in tuned if rates[name] == rate], "lr": torch.tensor(0.0, device=device)}
        for rate in sorted({rates[name] for name in tuned})
    ]
    factors = sorted({rates[name] for name in tuned})
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True, capturable=on_gpu)
    pool = pool.to(device)
    batch = min(schedule.batch, len(pool.ids))
    rng = torch.Generator().manual_seed(seed)
    order = torch.randint(len(pool.ids), (schedule.steps, batch), generator=rng).to(device)
    rows = order[0].clone()

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        cast = {name: tensor.to(torch.bfloat16) for name, tensor in master.items()} if on_gpu else master
        loss = loss_of(cast, shape, pool, rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([master[name] for name in tuned], 1.0)
        optimiser.step()
        return loss.detach()

    make = _captured(step, optimiser) if on_gpu else step
    total, loss = schedule.steps, torch.tensor(math.nan)
    for index in range(total):
        rows.copy_(order[index])
        for group, factor in zip(optimiser.param_groups, factors, strict=True):
            group["lr"].fill_(factor * schedule.rate * _shape_of_rate(index, total))
        loss = make()
        if advance is not None:
            advance(index + 1, total)
        if index == 0 or (index + 1) % max(1, total // 4) == 0:
            report(f"{label} step {index + 1}/{total} loss {loss.item():.4f}")
    return {name: tensor.detach().cpu() for name, tensor in master.items()}


def _shape_of_rate(index: int, total: int) -> float:
    warm = max(1, round(total * WARM_UP))
    if index < warm:
        return (index + 1) / warm
    progress = (index - warm) / max(1, total - warm)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def _captured(step: Callable[[], Tensor], optimiser: torch.optim.Optimizer) -> Callable[[], Tensor]:
    """The step as a CUDA graph: one launch instead of hundreds. Rates are 0 here, so warm-up changes no weights."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    for state in optimiser.state.values():
        for value in state.values():
            value.zero_()
    optimiser.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay
