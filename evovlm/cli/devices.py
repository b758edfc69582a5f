"""What `--device` means, and a note if it was to be chosen. Knows the console and studies' headers; no models."""

from __future__ import annotations

from pathlib import Path


def device_for(asked: str, study: Path | None = None) -> str:
    """The device of that name; a note says so if `auto` is a GPU. study: its folder, where there may be one."""
    from evovlm.cli.console import note
    from evovlm.study.device import device_of
    from evovlm.system.device import chosen_device

    found = chosen_device(asked) if study is None else device_of(asked, study)
    if found not in (asked, "cpu"):
        note(f"models run on {found}, which --device auto chose")
    return found
