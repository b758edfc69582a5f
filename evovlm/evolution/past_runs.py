"""The pace of past runs, for models that are not here or too large to be measured in a moment.

Knows numbers and where they come from; loads nothing. They are scaled with the number of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from evovlm.evolution.forecast import Pace


@dataclass(frozen=True)
class PastRun:
    """A measured run. `parameters`: of a source's language tower, in billions. The pace's `whence` names the run."""

    kind: str
    on_gpu: bool
    parameters: float
    pace: Pace


READING = 1e9  # bytes per second at which weights are assumed to be read
WIDTH = 2  # bytes of a parameter in a file
PAST_RUNS = (
    # Measured: set-up, merge, answers (one image per question) and GPU memory, all in docs/performance-answering.md.
    # Assumed: prepare, load, build, length and host. Models were not read from disk there; that is added below.
    PastRun(
        "vlm",
        True,
        7.24,
        Pace(
            start=11.0,
            prepare=0.01,
            merge=0.014,
            answers=((16, 1.30), (32, 2.44), (64, 4.71), (128, 9.44)),
            load=5.0,
            build=60.0,
            length=40.0,
            host=20 * 10**9,
            gpu=89 * 10**9,
            spread=2.0,  # of another machine, and scaled
            whence="shapes of LLaVA-1.6-Mistral-7B, images of 2,928 tokens, 32 new tokens, one NVIDIA H200, 2026-11-26",
        ),
    ),
)


def past_pace(kind: str, device: str, parameters: float) -> Pace:
    """The pace of the nearest past run, scaled to so many billions of parameters.

    The nearest is one on the same kind of device, of the same kind of model if there is one.
    """
    on_gpu = device.startswith("cuda")
    run = max(PAST_RUNS, key=lambda run: (run.on_gpu == on_gpu, run.kind == kind))
    pace, factor = run.pace, parameters / run.parameters
    reading = parameters * 1e9 * WIDTH / READING
    other = [] if run.on_gpu == on_gpu else [f"no run on {device} is known"]
    other += [] if run.kind == kind else [f"no run of a {kind} is known there, which may be several times faster"]
    told = f"a past run ({pace.whence}), scaled to {parameters:g} billion parameters"
    return replace(
        pace,
        start=pace.start + 3 * reading,
        merge=pace.merge * factor,
        answers=tuple((count, seconds * factor) for count, seconds in pace.answers),
        load=pace.load + reading,
        build=pace.build * factor,
        host=int(pace.host * factor),
        gpu=int(pace.gpu * factor) if on_gpu else 0,
        whence="; ".join([told, *other]),
    )
