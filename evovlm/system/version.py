"""Versions of evovlm and of the packages its results depend on. Knows no other module."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "cma"),
    *("rouge-score", "rapidfuzz", "neologdn", "fugashi", "unidic-lite"),
)


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


VERSION = _version("evovlm")
TOGETHER = ("evovlm", "app", "benchmarks")  # the folders of a clone that hold the installed packages


def versions() -> dict[str, str]:
    """Versions of evovlm (with its commit), Python, and the packages that a score can depend on."""
    own = {"evovlm": VERSION, "commit": commit(), "python": platform.python_version()}
    return own | {name: _version(name) for name in PACKAGES}


@cache
def commit() -> str:
    """Which code is running: the clone's commit, the commit it was installed from, or a digest of the install record.

    `+changed` is appended if the packages (the app and the benchmarks too) were edited after that commit.
    """
    found = clone_commit(Path(__file__).parents[1])
    if found is not None:
        return found
    try:
        return installed_commit(distribution("evovlm"))
    except PackageNotFoundError:
        return "unknown"


def clone_commit(package: Path) -> str | None:
    """The commit of the clone whose top folder holds `package`; None if it is in no clone or in another project's."""
    told = _git(package.parent, "rev-parse", "--show-toplevel", "--short=12", "HEAD")
    if told is None:
        return None
    top, _, found = told.partition("\n")
    # A virtual environment inside another project's clone is not a clone of ours.
    if Path(top) != package.parent.resolve() or not _git(package.parent, "ls-files", package.name):
        return None
    return found + ("+changed" if _git(package.parent, "status", "--porcelain", "--", *TOGETHER) else "")


def installed_commit(installed: Distribution) -> str:
    """The commit that pip installed from, if it fetched a repository; otherwise a digest of the list of files."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    found: str | None = origin.get("vcs_info", {}).get("commit_id")
    if found is not None:
        return found[:12]
    record = installed.read_text("RECORD")
    return "unknown" if record is None else f"record-{hashlib.sha256(record.encode()).hexdigest()[:12]}"


def _git(folder: Path, *words: str) -> str | None:
    """The output of git in a folder; None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware(device: str = "cpu") -> str:
    """Describe the machine: processor, cores, and the accelerator if `device` is a GPU."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
    except OSError:
        pass
    words = f"{processor}, {os.cpu_count()} cores"
    if device.startswith("cuda"):
        import torch  # takes seconds to load, and versions are reported without it

        if torch.cuda.is_available():
            words += f", {torch.cuda.get_device_name(device)}"
    return words
