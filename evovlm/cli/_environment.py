"""Environment variables that libraries read: values which they answer with exceptions become sentences.

Knows how Python reports errors, and few variables by name: which ones a library reads stands in its source.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from types import TracebackType

from evovlm.cli.limits import MOST_THREADS
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged

# Read by libraries on import, which print warnings of their own or raise ValueError: a whole number, at least 1.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SECONDS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
FOLDERS = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
CHECKED = frozenset((*THREADS, *SECONDS, *FOLDERS, "OMP_WAIT_POLICY", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"))
# Set for every program; a library that reads them does not fail because of them.
COMMON = frozenset(
    ("HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "PWD", "OLDPWD", "TMPDIR", "HOSTNAME", "SHLVL", "_")
)
# Read by code that is compiled, so that no source says which: libraries' own ones start like this.
OWN = re.compile(r"(PY)?TORCH_|CUDA_|CUBLAS|CUDNN|NCCL_|TRITON_|TOKENIZERS_|RAY_|RAYON_|(OMP|MKL|KMP)_|HF_")
OURS = ("evovlm", "evovlm_app", "evovlm_benchmarks")
LEAST_VALUE = 3  # characters of a value that is looked for in a message; shorter ones occur by chance
MOST_NAMED = 6
MOST_SHOWN = 200
MOST_SOURCE = 4_000_000  # bytes


def check_environment() -> None:
    """Refuse values of environment variables that libraries would answer with exceptions or silence."""
    if sys.flags.optimize > 1:
        raise UserError(
            "PYTHONOPTIMIZE, or the option -OO of Python, removes docstrings, which libraries read; unset it"
        )
    for key in THREADS:
        for part in os.environ.get(key, "1").split(",") if os.environ.get(key) else ():
            if not (part.strip().isdecimal() and 1 <= int(part.strip()[:9]) <= MOST_THREADS):
                raise UserError(
                    f"{key}: {abridged(part)!r} is no number of threads from 1 to {MOST_THREADS}; change or unset it"
                )
    for key in SECONDS:
        if os.environ.get(key) and not os.environ[key].isdecimal():
            raise UserError(f"{key}: {abridged(os.environ[key])!r} is no number of seconds; change or unset it")
    for key in FOLDERS:
        if os.environ.get(key) and os.path.exists(os.environ[key]) and not os.path.isdir(os.environ[key]):
            raise UserError(f"{key}: {os.environ[key]} is not a folder; change or unset it")


def blamed_environment(error: BaseException) -> str | None:
    """The sentence on an error that variables of the environment seem to have caused; None if none seems to have.

    Blamed are those that a library's source on the way to the error reads, if the message has their name or value, or
    if the library was being imported; and libraries' own ones whose name or value is in the message.
    """
    said = " ".join(str(error).split())
    frames = _library_frames(error.__traceback__)
    if not frames:  # our own code failed
        return None
    importing = frames[0][1]
    read = [[name for name in sorted(os.environ) if _reads(file, name)] for file, _ in reversed(frames)]
    likely = {name for names in read for name in names} | set(filter(OWN.match, os.environ))
    blamed = sorted(name for name in likely if _occurs(name, said, os.environ))
    if not blamed and importing and not isinstance(error, ImportError):  # something that is not installed well
        blamed = next((names for names in read if names), [])  # by the source nearest to the error
    if not blamed:
        return None
    listed = ", ".join(blamed[:MOST_NAMED]) + (" and others" if len(blamed) > MOST_NAMED else "")
    what = "cannot be loaded" if importing else "fails"
    return (
        f"{listed}: a library {what} with this in the environment ({type(error).__name__}: {said[:MOST_SHOWN]});"
        " change or unset it, then run the same command again"
    )


def _library_frames(trace: TracebackType | None) -> list[tuple[str, bool]]:
    """The sources that the error came through since it left our own code, and whether each was being imported.

    If one was, those that asked for the import are left out.
    """
    found: list[tuple[str, bool]] = []
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] in OURS:
            found = []
        elif not code.co_filename.startswith("<frozen"):
            found.append((code.co_filename, code.co_name == "<module>"))
        trace = trace.tb_next
    first = next((place for place, (_, importing) in enumerate(found) if importing), 0)
    return found[first:]


def _occurs(name: str, said: str, values: Mapping[str, str]) -> bool:
    return name in said or (len(values[name]) >= LEAST_VALUE and values[name] in said)


def _reads(file: str, name: str) -> bool:
    """Whether a source has the variable's name as a text; not for those that were found to be right, or are common."""
    if name in COMMON or name in CHECKED:
        return False
    source = _source(file)
    return f'"{name}"' in source or f"'{name}'" in source


@cache
def _source(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read(MOST_SOURCE)
    except (OSError, ValueError):
        return ""
