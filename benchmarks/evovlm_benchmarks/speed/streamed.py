"""The cost of keeping sources in pinned host memory or on disk, compared with sources on the GPU.

Knows the bench of whole candidates; measures nothing itself. Half of the questions are answered at a time, as on a GPU
that has no room for the sources.
"""

from __future__ import annotations

from collections.abc import Iterator

from evovlm.merging.live.placement import Place
from evovlm_benchmarks.speed.candidate import EACH, Row, bench_for
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.settings import Settings

WAYS: tuple[tuple[Place, bool, str], ...] = (
    ("gpu", False, "on the GPU"),
    ("host", False, "in pinned memory, merged before"),
    ("host", True, "in pinned memory, merged while read"),
    ("disk", True, "mapped from files, merged while read"),
)


def streamed_rows(settings: Settings, rates: Rates) -> Iterator[Row]:
    """Yield a row per placement and number of questions per image; none with `quick` or on a CPU."""
    if settings.device.type != "cuda" or settings.quick:
        return
    bench = bench_for(settings, rates)
    seconds: dict[int, float] = {}
    for place, while_read, what in WAYS:
        bench.place(place, settings.work)
        bench.while_read = while_read
        for each in EACH:
            prepared = bench.prepared(bench.prompts(each), bench.questions // 2)
            row = bench.candidate(what, prepared, place=place, a_picture=each)
            seconds.setdefault(each, row["seconds"])
            yield row | {"times_resident": row["seconds"] / seconds[each]}
    bench.while_read = True
