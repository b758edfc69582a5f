"""How often, and with how many prompts, the engine is asked in a test."""

from collections.abc import Sequence
from typing import Any

import pytest

from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item


def count_answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which each call of the engine, from now on, appends the number of answers that it makes."""
    counts: list[int] = []
    answer = Engine.answer

    def counting(engine: Engine, prepared: Any, *more: Any) -> list[str]:
        counts.append(len(prepared.prompts))
        return answer(engine, prepared, *more)

    monkeypatch.setattr(Engine, "answer", counting)
    return counts


def assert_answers(engine: Engine, items: Sequence[Item], generation: Generation, said: list[str]) -> None:
    """Each item's answer is as said: on every path of the engine, one by one and in a batch, whole and streamed."""
    fast = engine.lean
    try:
        for lean in {fast, None}:
            engine.lean = lean
            for batch in (1, 4):
                assert engine.answer(engine.prepare(items, generation, batch)) == said
    finally:
        engine.lean = fast
    assert [list(engine.stream(engine.prepare([item], generation, 1)))[-1][0] for item in items] == said
