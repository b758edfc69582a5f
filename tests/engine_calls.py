"""How often, and with how many prompts, the engine is asked in a test."""

from typing import Any

import pytest

from evovlm.engines.hf import Engine


def count_answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which each call of the engine, from now on, appends the number of answers that it makes."""
    counts: list[int] = []
    answer = Engine.answer

    def counting(engine: Engine, prepared: Any, *more: Any) -> list[str]:
        counts.append(len(prepared.prompts))
        return answer(engine, prepared, *more)

    monkeypatch.setattr(Engine, "answer", counting)
    return counts
