"""Whether an engine can answer prompts with 8-bit products. Knows engines; the products are in `_eight_bit`."""

from __future__ import annotations

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared


def why_not_eight_bit(engine: Engine, prepared: Prepared) -> str | None:
    """Why an engine cannot answer these prompts with 8-bit products; None if it can."""
    if engine.lean is None:
        return "this model is answered by transformers' own layers, which have no 8-bit products"
    if not engine.lean.serves(prepared):
        return (
            "beams, repetition penalties, and prompts longer than the model's window are answered by transformers' own"
            " layers, which have no 8-bit products"
        )
    return engine.lean.why_not_eight_bit()
