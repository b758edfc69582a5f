"""The parts of the speed benchmark by name. To add a part, add a line to `PARTS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.merge_disk import disk_rows
from evovlm_benchmarks.speed.merge_gpu import merge_rows, method_rows
from evovlm_benchmarks.speed.settings import Part, Settings


def _merge(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    return merge_rows(settings.scale, settings.device, rates, quick=settings.quick)


def _methods(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    return method_rows(settings.scale, settings.device, rates, settings.methods)


def _prepare(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.prepare import prepare_rows

    return prepare_rows(settings, rates)


def _candidate(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    # Imported late, so that the other benchmark commands start without transformers.
    from evovlm_benchmarks.speed.candidate import candidate_rows

    return candidate_rows(settings, rates)


def _questions(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.questions import question_rows

    return question_rows(settings, rates)


def _streamed(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.streamed import streamed_rows

    return streamed_rows(settings, rates)


def _fidelity(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.fidelity import fidelity_rows

    return fidelity_rows(settings, rates)


def _tiles(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.fidelity_tiles import tiles_rows

    return tiles_rows(settings, rates)


def _ranks(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.ranks import ranks_rows

    return ranks_rows(settings, rates)


def _loading(settings: Settings, rates: Rates) -> Iterable[dict[str, Any]]:
    from evovlm_benchmarks.speed.loading import loading_rows

    return loading_rows(settings)


PARTS: dict[str, Part] = {
    "merge": _merge,
    "methods": _methods,
    "prepare": _prepare,
    "candidate": _candidate,
    "questions": _questions,
    "streamed": _streamed,
    "fidelity": _fidelity,
    "tiles": _tiles,
    "ranks": _ranks,
    "loading": _loading,
    "disk": disk_rows,
}
