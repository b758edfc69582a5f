"""How long the zoo's models take to load, and what the engine's self-check adds. Knows engines; no merges."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from evovlm.engines.hf import Engine
from evovlm.models.zoo_models import zoo_folder
from evovlm_benchmarks.speed.settings import Settings

ROUNDS = 5
# What the self-check may cost a search: so many seconds, or this share of its start, of which loading is a part.
MOST_SECONDS = 1.0
MOST_OF_START = 0.05
RULE = f"rule: at most {MOST_SECONDS:g} s, or {MOST_OF_START:.0%} of a search's start"


def loading_rows(settings: Settings) -> Iterator[dict[str, Any]]:
    """Per model, the median seconds of loading without the self-check, and of the check alone.

    With the check come its share of loading and whether it keeps the rule.
    The first round is left out: it loads libraries and compiles kernels, which the first answers would need as well.
    """
    for name in ("vlm", "ja"):
        loads, checks = [], []
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            engine = Engine.load(zoo_folder(name), device=str(settings.device), self_check=False)
            loaded = time.perf_counter()
            engine.check(f"zoo:{name}")
            loads.append(loaded - began)
            checks.append(time.perf_counter() - loaded)
        load, check = median(loads[1:]), median(checks[1:])
        yield {"what": f"load zoo:{name}", "seconds": load}
        kept = check <= MOST_SECONDS or check <= MOST_OF_START * load
        what = f"self-check of zoo:{name}, {check / load:.0%} of loading ({RULE}: {'kept' if kept else 'BROKEN'})"
        yield {"what": what, "seconds": check, "share_of_loading": check / load, "rule_kept": kept}
