"""Counts open streams, by session and by client. Knows no queue and no pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class OpenStreams:
    """Counts open streams: those that carry answers, and heartbeats, which only show that a page is open."""

    def __init__(self) -> None:
        self._listening: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._by_client: Counter[str] = Counter()

    def listens(self, session: str) -> bool:
        """Whether the session has an open stream for answers."""
        return self._listening[session] > 0

    def is_open(self, session: str) -> bool:
        """Whether the session has an open stream of either kind."""
        return self._open[session] > 0

    def streams(self, client: str) -> int:
        """The number of a client's open streams."""
        return self._by_client[client]

    @property
    def total(self) -> int:
        """The number of open streams of all clients."""
        return self._by_client.total()

    @contextmanager
    def stream(self, client: str, session: str, *, listening: bool) -> Iterator[None]:
        """Count one stream as open inside the `with` block."""
        counted = [(self._open, session), (self._by_client, client)]
        if listening:
            counted.append((self._listening, session))
        for counter, key in counted:
            counter[key] += 1
        try:
            yield
        finally:
            for counter, key in counted:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]  # keep no entries for closed sessions and clients
