"""Many visitors at once, in rounds: lost requests, waiting times, and the server's memory growth."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evovlm.cli.progress import shown
from evovlm_benchmarks.app_load.scenes import ask, load_scenes
from evovlm_benchmarks.app_load.server import Server
from evovlm_benchmarks.app_load.visitor import Visitor, address

ROUNDS_EACH = 30  # uploads per visitor before a new address replaces it: the app limits uploads per hour


def crowd(server: Server, requests: int, rounds: int) -> dict[str, Any]:
    """Ask `requests` questions at once, `rounds` times; each question is a session, each place an address.

    Returns the figures: lost requests with reasons, waits in seconds, memory in MB.
    """
    scenes = load_scenes()
    compare = Visitor(server.url, address(0)).functions()["compare"]
    reasons: Counter[str] = Counter()
    told: list[dict[str, Any]] = []
    before = server.memory_mb()

    def visit(place: int) -> tuple[str | None, float]:
        number = place + requests * (len(told) // ROUNDS_EACH)
        started = time.perf_counter()
        reason = None
        try:
            ask(Visitor(server.url, address(number)), compare, scenes[place % len(scenes)])
        except Exception as error:  # a lost request must not end the measurement; every reason is reported
            reason = f"{type(error).__name__}: {error}"
        return reason, time.perf_counter() - started

    with shown() as watch, ThreadPoolExecutor(requests) as visitors:
        watch.phase("load", requests * rounds)
        for _ in range(rounds):
            started = time.perf_counter()
            waits = []
            for reason, seconds in visitors.map(visit, range(requests)):
                if reason is not None:
                    reasons[reason] += 1
                waits.append(seconds)
                watch.step("")
            told.append(_row(server, waits, time.perf_counter() - started, requests * (len(told) + 1)))
    first, last = told[0]["memory_mb"], told[-1]["memory_mb"]
    return {
        "requests": requests,
        "lost": reasons.total(),
        "reasons": dict(reasons),
        "memory_mb_before": before,
        "growth_after_first_round": round(last / first - 1, 4),
        "rounds": told,
    }


def _row(server: Server, waits: list[float], took: float, sessions: int) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "sessions_kept": server.health()["sessions"],
        "memory_mb": server.memory_mb(),
        "seconds": round(took, 2),
        "a_second": round(len(waits) / took, 2),
        "median_wait": round(statistics.median(waits), 2),
        "longest_wait": round(max(waits), 2),
    }
