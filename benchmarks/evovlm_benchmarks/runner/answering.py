"""Answer one task with one model, batch by batch; batches that do not fit in memory are halved.

Knows the engine and how answers are scored; stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared
from evovlm.evaluators.single_model import without_image
from evovlm.models.open_model import OpenModel
from evovlm.system.errors import UserError
from evovlm.system.faults import is_out_of_memory
from evovlm.tasks import Generation, Item
from evovlm_benchmarks.runner.pairs import Pair
from evovlm_benchmarks.runner.results import Answer, mark

# Prompts and image features of this many batches are held in memory at a time.
WINDOW = 4


class PairFault(UserError):
    """A model cannot answer a task; the others may."""


def load_engine(opened: OpenModel, device: str, *, self_check: bool = True) -> Engine:
    """An opened model's engine, on a device that is there. Raises PairFault if it cannot be loaded."""
    try:
        dtype = torch.float32 if device == "cpu" else None
        return Engine.load(opened.folder, device=device, dtype=dtype, self_check=self_check)
    except UserError as error:
        raise PairFault(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise PairFault(
            f"{opened.label} does not fit into the memory of {device}; free some memory or choose another --device,"
            " and run the same command again"
        ) from None


@contextmanager
def named_faults(pair: Pair, device: str) -> Iterator[None]:
    """Turn a model's failures (broken weights, no chat template, out of memory) into PairFaults; answers are kept."""
    where = f"{pair.model.name} on {pair.task.name}"
    try:
        yield
    except UserError as error:
        raise PairFault(f"{where}: {error}") from error
    except FloatingPointError as error:
        raise PairFault(f"{where}: {error}; its weights are broken; leave the model out or merge it again") from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise PairFault(
            f"{where}: one question alone does not fit into the memory of {device}; free some memory, choose another"
            " --device or a preset with fewer beams or tokens, and run the same command again"
        ) from None


def as_asked(engine: Engine, pair: Pair) -> tuple[list[Item], Generation]:
    """A pair's items and how the model is asked them; one without vision gets no images."""
    asked, generation = list(pair.items), pair.task.generation
    return (asked, generation) if engine.sees else without_image(asked, generation)


def answers_of_pair(
    engine: Engine,
    pair: Pair,
    asked: Sequence[Item],
    generation: Generation,
    batch: int,
    known: set[str],
    halved: list[int],
) -> Iterator[list[Answer]]:
    """Yield answers batch by batch, skipping the ids in `known`.

    A batch size that does not fit in memory is appended to `halved`, and later batches keep to the smaller size.
    """
    by_id = {item.id: item for item in pair.items}
    start = 0
    while start < len(asked):
        window = asked[start : start + WINDOW * batch]
        start += len(window)
        if all(item.id in known for item in window):
            continue
        prepared = _prepared_or_none(engine, window, generation, batch)
        if prepared is None:
            halved.append(batch)
            batch, start = (batch + 1) // 2, start - len(window)
            continue
        rows = [row for row in prepared.batches if not all(window[index].id in known for index in row)]
        while rows:
            row = rows.pop(0)
            part = Prepared([prepared.prompts[index] for index in row], generation, [list(range(len(row)))])
            answers = engine.answer(part)
            if part.halved:
                halved += part.halved
                batch = max(len(piece) for piece in part.batches)
                rows = [piece[i : i + batch] for piece in rows for i in range(0, len(piece), batch)]
            ids = [window[index].id for index in row]
            yield [
                mark(pair.task, by_id[key], answer)
                for key, answer in zip(ids, answers, strict=True)
                if key not in known
            ]


def _prepared_or_none(engine: Engine, window: Sequence[Item], generation: Generation, batch: int) -> Prepared | None:
    """Prompts and image features of a window; None if they do not fit in memory but a smaller batch might."""
    try:
        return engine.prepare(window, generation, batch)
    except (MemoryError, RuntimeError) as error:
        if batch == 1 or not is_out_of_memory(error):
            raise
    return None
