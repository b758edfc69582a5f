"""The medium zoo's plan: models of 39 to 50 million parameters and how each is trained. Trains nothing.

Cost: on an H100 80GB the base takes 54 ms per step (161 s); on an H200 aligning takes 50 ms (198 s), and tuning `vlm`
and `ja` 58 and 48 ms: under eight minutes in all, after a good minute in which several processes generate the data.
"""

from __future__ import annotations

from evovlm.zoo import _corpus as small
from evovlm.zoo._fit import Schedule
from evovlm.zoo._network import Shape
from evovlm.zoo._plan import OverTuned, Plan, Stage, eyes_only
from evovlm.zoo.medium import _corpus as corpus
from evovlm.zoo.medium.render import SIDE, render

EARLY, LATE = (0, 1, 2, 3), (8, 9, 10, 11)  # layers that a fine-tune may over-train

SHAPE = Shape(
    vocabulary=0,
    hidden=512,
    layers=12,
    inner=1536,
    heads=8,
    kv_heads=4,
    vision_hidden=384,
    vision_layers=6,
    vision_inner=1536,
    vision_heads=6,
    image=SIDE,
    patch=16,
)


def medium_plan() -> Plan:
    """Language towers of 39 M parameters; 50 M with the VLM's vision tower. Images of 128 x 128 pixels, 64 tokens."""
    stages = {
        "base": Stage(corpus.base_mixture, 240_000, Schedule(3000, 1e-3)),
        "align": Stage(corpus.align_mixture, 100_000, Schedule(4000, 6e-4, rates=eyes_only)),
        "vlm": Stage(corpus.vlm_mixture, 60_000, Schedule(800, 2e-4, rates=OverTuned(6.0, LATE, head=True))),
        "ja": Stage(corpus.ja_mixture, 40_000, Schedule(400, 2e-4, rates=OverTuned(6.0, EARLY, head=False))),
        "math": Stage(small.math_mixture, 20_000, Schedule(400, 2e-4, 64, OverTuned(4.0, LATE, head=True))),
        "math2": Stage(small.math2_mixture, 20_000, Schedule(400, 2e-4, 64, OverTuned(4.0, EARLY, head=False))),
    }
    return Plan(SHAPE, stages, render)
