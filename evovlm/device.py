"""Is a device there? Knows torch alone."""

from __future__ import annotations

import torch

from evovlm.errors import UserError


def check_device(device: str) -> None:
    """Raises UserError for a device that torch does not have here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: {reason}; use cpu, or cuda where torch sees a GPU") from None
