"""Read results from folders as entries with unique names. Knows the result files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evovlm_benchmarks.runner.comparison import Entry
from evovlm_benchmarks.runner.results import answers_of, find_results


def read_entries(places: Sequence[Path]) -> list[Entry]:
    """All results of run folders or files. A model that occurs in several runs gets the run's name as a prefix.

    Raises UserError if there are no results or a file is broken.
    """
    found = find_results(places)
    key = [(result.model, result.task, result.split, result.items_digest) for _, result in found]
    often = Counter(key)
    entries = []
    for (path, result), own in zip(found, key, strict=True):
        run = path.resolve().parent.parent.name
        preset = f" ({result.rules['preset']})" if "preset" in result.rules and often[own] > 1 else ""
        name = result.model if often[own] == 1 else f"{run}/{result.model}{preset}"
        entries.append(Entry(name, result, {answer.id: answer for answer in answers_of(path, result)}))
    return entries
