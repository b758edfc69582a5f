"""Create the example pools of a plan's stages, in this process or ahead of time in others.

Knows what a stage needs; no models, no training. A pool is the same in whichever process it is created.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from evovlm.system.child import die_with_parent
from evovlm.zoo import _corpus as corpus
from evovlm.zoo._fit import Pool
from evovlm.zoo._plan import Mixture
from evovlm.zoo._pools import Render, make_pool

Arrays = tuple[np.ndarray | None, ...]


@dataclass(frozen=True)
class Order:
    """The specification of one stage's pool."""

    mixture: Mixture
    count: int  # examples
    seed: str
    tokenizer: Tokenizer
    render: Render
    side: int  # pixels

    def fill(self) -> Pool:
        """Create the pool: draw the examples, encode them, render their images."""
        examples = corpus.draw(self.mixture, self.count, self.seed)
        return make_pool(examples, self.tokenizer, self.render, self.side)


class Pools:
    """The pools of several stages; with more than one process, all are started at once in worker processes."""

    def __init__(self, orders: Mapping[str, Order], processes: int) -> None:
        self._orders = dict(orders)
        self._executor: ProcessPoolExecutor | None = None
        self._begun: dict[str, Future[Arrays]] = {}
        if processes > 1:
            # Spawned, because a process that uses a GPU or threads must not be forked.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(
                processes, mp_context=context, initializer=die_with_parent, initargs=(os.getpid(),)
            )
            self._begun = {name: self._executor.submit(_fill, order) for name, order in self._orders.items()}

    def take(self, name: str) -> Pool:
        """One stage's pool. It can be taken only once, because it is not kept."""
        if name not in self._begun:
            return self._orders.pop(name).fill()
        parts = [None if part is None else torch.from_numpy(part) for part in self._begun.pop(name).result()]
        assert parts[0] is not None
        assert parts[1] is not None
        return Pool(parts[0], parts[1], parts[2], parts[3])

    def close(self) -> None:
        """Stop the workers; pools that were not taken are dropped."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def _fill(order: Order) -> Arrays:
    """A pool as arrays: tensors would be sent through shared memory, which is scarce in containers."""
    pool = order.fill()
    parts = (pool.ids, pool.labels, pool.pixels, pool.image)
    return tuple(None if part is None else part.numpy() for part in parts)
