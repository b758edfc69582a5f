"""Seconds per phase and candidate, against the hardware limit. Knows logged trials and rates; no models."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from evovlm.study.log import Trial
from evovlm.study.result import MachineRates, Phase, Profile
from evovlm.system.roofline import Rates


def profile_of(trials: Sequence[Trial], rates: Rates, floors: Mapping[str, float]) -> Profile:
    """Median seconds of each phase over the evaluated trials, with `floors` (hardware limits, in seconds) if known.

    The first trial is left out if there are others, because it includes one-time work that all trials share.
    """
    timed = [trial.seconds for trial in trials if trial.seconds]
    timed = timed[1:] or timed
    phases: dict[str, Phase] = {}
    for phase in dict.fromkeys(name for seconds in timed for name in seconds):
        median = statistics.median(seconds[phase] for seconds in timed if phase in seconds)
        floor = floors.get(phase)
        phases[phase] = Phase(seconds=median, floor=floor, ratio=median / floor if floor else None)
    return Profile(trials=len(timed), rates=MachineRates.model_validate(rates.as_dict()), phases=phases)
