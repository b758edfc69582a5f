"""Merging one tensor at a time on a GPU, for methods that the fused pass does not support.

Knows operands on a device; no placement and no streams. Sums of task vectors get masks made beforehand and then take
the fused pass; other methods, those that users register among them, run their own rule on the device's tensors. A rule
that computes with NumPy, or for which memory is short, is given copies on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_operands import task_vector
from evovlm.merging.live._gpu_terms import Levels, Shares
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import CHUNK, METHODS, blaming_plugins, merge_tensor
from evovlm.methods.draws import draw_key
from evovlm.methods.kernels import way_of
from evovlm.methods.kernels.device_draws import DeviceDraws
from evovlm.methods.kernels.launch import Shape, merge_batch
from evovlm.methods.kernels.layout import Operands, make_batch
from evovlm.methods.kernels.masks import della_mask, kept_ratio, window_mask
from evovlm.methods.kernels.numbers import Share, divisors_of, rows_of
from evovlm.system.faults import is_out_of_memory
from evovlm.system.plain_text import abridged

MOST_SHOWN = 200  # characters of why a method does not compute on a GPU


class OneByOne:
    """Merges single tensors. shares: the tables, which the fused pass uses too. tell: called with one sentence."""

    def __init__(self, device: torch.device, shape: Shape, shares: Shares, tell: Callable[[str], None]) -> None:
        self._device, self._shape, self._shares, self._tell = device, shape, shares, tell
        self._on_cpu: set[str] = set()  # methods whose rule cannot compute on the device

    def merge(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands) -> Tensor:
        """Merge a tensor into `operands.out`; returns a flag [1] on the device, set if a value is not finite."""
        method = candidate.recipe.method
        if way_of(method, candidate.options) == "masked":
            self._tell(f"merged on the GPU, one tensor at a time: {method} needs its masks before the fused pass")
            return self._masked(candidate, levels, job, operands)
        if method not in self._on_cpu:
            self._tell(f"merged on the GPU, one tensor at a time: {method} has no fused kernel")
        self._whole(candidate, job, operands)
        return (~torch.isfinite(operands.out.sum(dtype=torch.float32))).view(1)

    def _masked(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands) -> Tensor:
        method, options = candidate.recipe.method, candidate.options
        shares, masks = [], []
        for index, (source, _) in enumerate(job.parts):
            weight, density = levels[source, job.group]
            mask, ratio = self._mask(candidate, job, operands, index, density)
            shares.append(Share(weight * ratio, 1.0, draw_key(candidate.recipe.seed, source, job.name)))
            masks.append(mask)
        whole = replace(operands, masks=tuple(masks))
        batch = make_batch([whole], candidate.dtype, self._device, self._shape.groups, self._shape.repeats)
        numbers = rows_of(method, options, [shares])
        # Elected signs and normalised sums divide by the weights as given, without the factor for what was dropped.
        given = [levels[source, job.group][0] for source, _ in job.parts]
        plain = [share._replace(weight=weight) for share, weight in zip(shares, given, strict=True)]
        numbers[:, :, 1] = rows_of(method, options, [plain])[:, :, 1]
        batch.numbers.copy_(torch.from_numpy(numbers))
        batch.divisors.copy_(torch.from_numpy(divisors_of(method, options, [plain])))
        merge_batch(batch, method, options, self._shape, masked=True)
        return batch.faults

    def _mask(
        self, candidate: Assembly, job: Job, operands: Operands, index: int, density: float
    ) -> tuple[Tensor, float]:
        """One source's mask, int8 [n] (float32 for `rescale: per_element`), and the factor of what it keeps."""
        options, count = candidate.options, operands.out.numel()
        per_element = options.rescale == "per_element"
        dtype = torch.float32 if per_element else torch.int8
        if density >= 1:
            return torch.ones(count, dtype=dtype, device=self._device), 1.0
        none = torch.zeros(count, dtype=dtype, device=self._device)
        if density <= 0:
            return none, 1.0
        draws = DeviceDraws(candidate.recipe.seed, job.parts[index][0], job.name, self._device)
        if METHODS[candidate.recipe.method].drop == "della":
            sizes = task_vector(operands, index).abs_()
            row = job.shape[-1] if job.shape else 1
            mask = della_mask(sizes, row, density, options.epsilon, draws, per_element=per_element)
            return mask, kept_ratio(sizes, mask, density, options.rescale)
        magnitudes = self._shares.magnitudes(job, index, operands)
        if magnitudes is None:  # the task vector is zero, or the merge will not be finite
            return none + 1, 1.0
        window = magnitudes.window(density, options.gamma)
        if window is None:
            return none, 1.0
        sizes = task_vector(operands, index).abs_()
        mask = window_mask(sizes, window, draws)
        return mask, kept_ratio(sizes, mask, density, options.rescale)

    def _whole(self, candidate: Assembly, job: Job, operands: Operands) -> None:
        with blaming_plugins(candidate.recipe.method, job.name):
            self._by_rule_somewhere(candidate, job, operands)

    def _by_rule_somewhere(self, candidate: Assembly, job: Job, operands: Operands) -> None:
        method = candidate.recipe.method
        if method not in self._on_cpu:
            try:
                self._by_rule(candidate, job, operands, self._device)
                return
            except (RuntimeError, TypeError) as fault:
                if self._device.type == "cpu":
                    raise
                self._leave_gpu(method, fault)
        self._by_rule(candidate, job, operands, torch.device("cpu"))

    def _leave_gpu(self, method: str, fault: Exception) -> None:
        """Say why a method is merged on the CPU; if it is not for lack of memory, for all further tensors."""
        if is_out_of_memory(fault):
            self._tell(f"merged on the CPU where a tensor is too large for the GPU's free memory: {method}")
            torch.cuda.empty_cache()
            return
        self._on_cpu.add(method)
        self._tell(f"merged on the CPU: {method} does not compute on a GPU ({abridged(str(fault), MOST_SHOWN)})")

    def _by_rule(self, candidate: Assembly, job: Job, operands: Operands, device: torch.device) -> None:
        """Run the method's own rule on a device."""
        on_gpu = device == self._device
        read = []
        for (source, _), values in zip(job.parts, operands.sources, strict=True):
            draws = candidate.draws(job, source)
            if on_gpu:
                draws = DeviceDraws(candidate.recipe.seed, source, job.name, device)
            read.append(candidate.operand(job, source, values.to(device).view(job.shape), draws))
        base = None if operands.base is None else operands.base.to(device).view(job.shape)
        out = operands.out.view(job.shape)
        merged = merge_tensor(
            candidate.recipe.method,
            base,
            read,
            candidate.options,
            dtype=candidate.dtype,
            out=out if on_gpu else None,
            chunk=max(1, out.numel()) if on_gpu else CHUNK,
        )
        if not on_gpu:
            out.copy_(merged)
