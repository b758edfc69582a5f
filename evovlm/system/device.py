"""Check that a device is available, and make a GPU the current one. Knows only torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged

KINDS = ("cpu", "cuda", "mps", "xpu")
AUTO = "auto"
MOST_SHOWN = 160  # characters of torch's reason


def chosen_device(name: str) -> str:
    """The name of the device to use: for `auto` CUDA's if a GPU of CUDA works here, else the CPU's.

    Other names are returned as they are, and not checked.
    """
    if name != AUTO:
        return name
    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError):  # no GPU, no driver, a GPU that is in use, or torch without CUDA
        return "cpu"
    return "cuda"


def device_named(name: str) -> torch.device:
    """Parse a device name; the device need not be available. Raises UserError if it is not a valid device name."""
    try:
        found = torch.device(name)
    except (RuntimeError, ValueError, OverflowError):
        found = None
    # torch knows others, such as `meta`, which has shapes but no data.
    if found is None or found.type not in KINDS:
        raise UserError(f"--device {abridged(name)}: unknown device name; use cpu, cuda, cuda:1 and so on, or auto")
    return found


def check_device(device: str) -> torch.device:
    """The device of that name. Raises UserError if the name is invalid or torch cannot use the device here."""
    kind = device_named(device).type
    try:
        return torch.zeros(1, device=device).device
    except NotImplementedError:  # its text lists every kind of device that torch has
        reason = f"torch has no {kind} device here"
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = abridged(next(iter(str(error).splitlines()), type(error).__name__), MOST_SHOWN)
    raise UserError(f"--device {device}: {reason}; use cpu, or cuda where torch sees a GPU")


def has_float8(device: str) -> bool:
    """Whether a GPU multiplies 8-bit floats (compute capability 8.9 or newer). False for any other device.

    True for a GPU of a machine that has none here: a forecast may be asked for on another machine.
    """
    if torch.device(device).type != "cuda":
        return False
    return not torch.cuda.is_available() or torch.cuda.get_device_capability(device) >= (8, 9)


def current_gpu(device: torch.device) -> AbstractContextManager[object]:
    """A context in which a GPU is the current device, so that kernels, graphs and events use it; no-op for a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def gpu_named(name: str) -> torch.device | None:
    """CUDA's GPU of that name, or by `auto`; None for another device. Raises UserError as `check_device` does."""
    found = check_device(chosen_device(name))
    return found if found.type == "cuda" else None
