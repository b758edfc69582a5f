"""What `evovlm doctor` looks at, beside the machine: packages, GPU, kernels, dictionary, caches, the zoo.

Knows which parts of evovlm need what. Opens no connection, and changes nothing.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from evovlm.system.machine import Finding, check_disks, check_limits, check_memory, writable

# What does not work without an extra.
EXTRAS = {
    "gpu": "candidates are merged by the CPU, and fused kernels do not answer",
    "app": "`evovlm app` does not start",
    "lid": "`--lid` (the paper's language identification) does not work",
    "lmeh": "`evovlm bench lmeh` does not work",
    "optuna": "`evovlm export` does not work",
    "ray": "`--ray` does not work",
}
TESTED_PYTHONS = ((3, 11), (3, 12))
WALKED = 20_000  # files of the hub's cache that are counted at most, so that a large cache does not take seconds
SENTENCE = "すもももももももものうち"


def diagnose() -> list[Finding]:
    """All findings. A check that fails in an unforeseen way is a finding of its own."""
    parts: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("evovlm", _versions),
        ("packages", _packages),
        ("extras", _extras),
        ("torch", _torch),
        ("dictionary", _dictionary),
        ("zoo", _zoo),
        ("hub cache", _hub_cache),
        ("disk", check_disks),
        ("memory", check_memory),
        ("limits", check_limits),
    ]
    findings: list[Finding] = []
    for name, part in parts:
        try:
            findings += part()
        except Exception as error:  # a broken installation may raise anything, and the other parts are to be told
            findings.append(Finding(name, "error", in_words(error), "reinstall evovlm and its packages"))
    return findings


def in_words(error: BaseException) -> str:
    """An exception by type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _versions() -> Iterator[Finding]:
    from evovlm.system.version import VERSION, commit

    yield Finding("evovlm", "ok", f"{VERSION} ({commit()}) in {Path(__file__).parents[1]}")
    told = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    tested = sys.version_info[:2] in TESTED_PYTHONS and sys.platform == "linux" and platform.machine() == "x86_64"
    advice = "tested are Python 3.11 and 3.12 on Linux x86_64; if something fails, try there"
    yield Finding("python", "ok" if tested else "note", told, "" if tested else advice)


def _packages() -> Iterator[Finding]:
    """The packages that evovlm requires."""
    try:
        wanted = _requirements()
    except PackageNotFoundError:
        advice = "versions cannot be checked; install evovlm with `pip install .` in its clone"
        yield Finding("packages", "warning", "evovlm runs without being installed", advice)
        return
    misfits = _misfits(wanted[None])
    if misfits:
        advice = f"most commands fail; pip install {' '.join(repr(wanted) for wanted, _ in misfits)}"
        yield Finding("packages", "error", "; ".join(told for _, told in misfits), advice)
    else:
        named = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "datasets", "numpy")
        yield Finding("packages", "ok", ", ".join(f"{name} {version(name)}" for name in named))


def _extras() -> Iterator[Finding]:
    try:
        wanted = _requirements()
    except PackageNotFoundError:
        return
    for name, lost in EXTRAS.items():
        misfits = _misfits(wanted.get(name, []))
        if misfits:
            advice = f"{lost}; pip install 'evovlm[{name}]'"
            yield Finding(f"extra {name}", "note", "; ".join(told for _, told in misfits), advice)
        else:
            yield Finding(f"extra {name}", "ok", "installed")


def _requirements() -> dict[str | None, list[str]]:
    """What the installed evovlm requires, by extra (None: always); only what holds on this platform."""
    from packaging.requirements import Requirement

    found: dict[str | None, list[str]] = {None: []}
    for text in requires("evovlm") or []:
        one = Requirement(text)
        plain = f"{one.name}{one.specifier}"
        for extra in (None, *EXTRAS):
            needs = one.marker is None if extra is None else one.marker is not None and "extra" in str(one.marker)
            if needs and (one.marker is None or one.marker.evaluate({"extra": extra or ""})):
                found.setdefault(extra, []).append(plain)
    return found


def _misfits(wanted: Iterable[str]) -> list[tuple[str, str]]:
    """The requirements that are not met, each with a few words on what is there."""
    from packaging.requirements import Requirement

    misfits = []
    for text in wanted:
        one = Requirement(text)
        try:
            there = version(one.name)
        except PackageNotFoundError:
            misfits.append((text, f"{one.name} is not installed"))
            continue
        if not one.specifier.contains(there, prereleases=True):
            misfits.append((text, f"{one.name} is {there}, not {one.specifier}"))
    return misfits


def _torch() -> Iterator[Finding]:
    """Whether torch loads, sees a GPU, and can use it."""
    try:
        import torch
    except Exception as error:  # a missing system library is an OSError, a wrong NumPy something else
        advice = "no model can be loaded; install torch again, and see its message with `python -c 'import torch'`"
        yield Finding("torch", "error", f"cannot be loaded ({in_words(error)})", advice)
        return
    driver = _driver()
    if not torch.cuda.is_available():
        if driver is None:
            advice = "searches of the zoo take minutes on a CPU; models of 7B need an NVIDIA GPU"
            yield Finding("gpu", "note", "none that torch could use", advice)
        elif torch.version.cuda is None:
            advice = "models run on the CPU; install a CUDA build of torch (https://pytorch.org/get-started)"
            yield Finding("gpu", "warning", f"driver {driver}, but torch {torch.__version__} is built for CPUs", advice)
        else:
            advice = f"models run on the CPU; update the driver for CUDA {torch.version.cuda}, see CUDA_VISIBLE_DEVICES"
            yield Finding("gpu", "warning", f"driver {driver}, but torch sees no GPU", advice)
        return
    for number in range(torch.cuda.device_count()):
        yield _gpu(number, driver)
    yield check_kernels("cuda")


def _gpu(number: int, driver: str | None) -> Finding:
    import torch

    name = f"gpu {number}"
    try:
        free, total = torch.cuda.mem_get_info(number)
        assert float(torch.ones(8, device=f"cuda:{number}").sum()) == 8.0
    except Exception as error:  # a GPU in a bad state raises what it likes
        advice = "searches on it fail; see `nvidia-smi`, end other programs, or choose another with --device"
        return Finding(name, "error", f"cannot be used ({in_words(error)})", advice)
    told = f"{torch.cuda.get_device_name(number)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
    return Finding(name, "ok", f"{told}, driver {driver or 'unknown'}, CUDA {torch.version.cuda}")


def _driver() -> str | None:
    """The version of NVIDIA's driver; None if it is not loaded."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else "unknown"


def check_kernels(device: str) -> Finding:
    """Whether a Triton kernel of ours compiles and gives the CPU's result."""
    import torch

    from evovlm.methods.kernels import triton_is_there

    if not triton_is_there():
        return Finding("kernels", "warning", "Triton is not installed", f"{EXTRAS['gpu']}; pip install 'evovlm[gpu]'")
    try:
        from evovlm.methods.draws import philox_draws
        from evovlm.methods.kernels.tabulate import draw_sums

        count, half, key = 4096, 2**15, 1
        found = draw_sums(torch.ones(count, device=device), key, 1.0).ratio(half)
        right = count / int((philox_draws(key, 0, count) < half).sum())
        assert found == right, f"a kernel gave {found}, not {right}"
    except Exception as error:  # a missing compiler, header or driver function
        advice = f"{EXTRAS['gpu']}; Triton needs a C compiler (Debian: apt-get install gcc) and a writable ~/.triton"
        return Finding("kernels", "warning", f"do not compile ({in_words(error)})", advice)
    return Finding("kernels", "ok", f"Triton {version('triton')} compiles them")


def _dictionary() -> Iterator[Finding]:
    """Whether MeCab starts with its dictionary, and language identification is there."""
    try:
        from evovlm.tasks.metrics.rouge import tokenize

        tokens = tokenize(SENTENCE)
        assert len(tokens) > 3, f"{SENTENCE} is read as {tokens}"
    except Exception as error:  # MeCab's own is a MachineFault, a shadowed module anything
        advice = "Japanese answers cannot be scored; pip install --force-reinstall fugashi unidic-lite"
        yield Finding("dictionary", "error", f"MeCab does not start ({in_words(error.__cause__ or error)})", advice)
        return
    yield Finding("dictionary", "ok", f"fugashi {version('fugashi')}, unidic-lite {version('unidic-lite')}")


def _zoo() -> Iterator[Finding]:
    from evovlm.models.zoo_models import FOLDER, ZOO_MODELS, zoo_folder
    from evovlm.system.errors import CheckpointError

    try:
        for name in ZOO_MODELS:
            zoo_folder(name)
    except CheckpointError as error:
        yield Finding("zoo", "error", str(error), "the zoo's recipes, suites and tests fail; reinstall evovlm")
        return
    yield Finding("zoo", "ok", f"{len(ZOO_MODELS)} models, intact, in {FOLDER}")


def _hub_cache() -> Iterator[Finding]:
    """Where hub models are kept, what is there, and whether more can be fetched."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    told = f"{folder}: {_contents(folder)}"
    reason = writable(folder)
    if reason is not None:
        advice = "nothing can be fetched with --download; set HF_HOME to a folder that can be written"
        yield Finding("hub cache", "warning", f"cannot be written ({reason})", advice)
        return
    if constants.HF_HUB_OFFLINE:
        advice = "--download fetches nothing; unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to allow it"
        yield Finding("hub cache", "note", f"{told}; offline", advice)
        return
    yield Finding("hub cache", "ok", told)


def _contents(folder: Path) -> str:
    """How many models and data sets a cache holds, and their size."""
    if not folder.is_dir():
        return "empty"
    count = {kind: sum(1 for _ in folder.glob(f"{kind}--*--*")) for kind in ("models", "datasets")}
    total = walked = 0
    for blobs in folder.glob("*/blobs"):
        for entry in os.scandir(blobs):
            walked += 1
            total += entry.stat().st_size if walked <= WALKED else 0
    more = "more than " if walked > WALKED else ""
    return f"{count['models']} models, {count['datasets']} data sets, {more}{total / 1e9:.1f} GB"
