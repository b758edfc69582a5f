"""Versions of evovlm and of what its results depend on. Knows no other module."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "cma", "rouge-score", "fugashi")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


VERSION = _version("evovlm")


def versions() -> dict[str, str]:
    """evovlm, Python, and the packages that a score can depend on."""
    return {"evovlm": VERSION, "python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def hardware(device: str = "cpu") -> str:
    """The machine in words: processor, cores, and the accelerator where one is used."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
    except OSError:
        pass
    words = f"{processor}, {os.cpu_count()} cores"
    if device.startswith("cuda") and torch.cuda.is_available():
        words += f", {torch.cuda.get_device_name(device)}"
    return words
