"""How a candidate's cost grows with the number of questions, and with the questions per image.

Knows the bench of whole candidates; measures nothing itself. Each figure includes the merge, which does not grow.
"""

from __future__ import annotations

from collections.abc import Iterator

from evovlm_benchmarks.speed.candidate import MOST, Row, bench_for
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.settings import Settings

SHARES = (4, 2)  # divisors of the full set: a quarter, a half; then the full set and twice as many
A_PICTURE = (1, 2, 4, 8)
REPEATS = 1


def question_rows(settings: Settings, rates: Rates) -> Iterator[Row]:
    """Yield a row per number of questions, with one per image, and a row per number of questions per image."""
    bench = bench_for(settings, rates)
    bench.place("gpu")
    whole = bench.questions
    for count in (*(whole // share for share in SHARES), whole, MOST * whole):
        prepared = bench.prepared(bench.prompts(1, count))
        yield bench.candidate("questions, one a picture", prepared, REPEATS, a_picture=1)
    for each in A_PICTURE[1:]:
        prepared = bench.prepared(bench.prompts(each))
        yield bench.candidate("questions, several a picture", prepared, REPEATS, a_picture=each)
