"""Is a device there, and is it the current one? Knows torch alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from evovlm.system.errors import UserError


def device_named(name: str) -> torch.device:
    """The device of that name, whether it is here or not. Raises UserError for what is no device's name."""
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no device is called that; use cpu, cuda, or cuda:1 and so on") from None


def check_device(device: str) -> torch.device:
    """The device of that name. Raises UserError for one that torch does not have here."""
    device_named(device)
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: {reason}; use cpu, or cuda where torch sees a GPU") from None


def current_gpu(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the current one, which kernels, graphs and events go to; does nothing for a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
