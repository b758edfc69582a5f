"""The models' queue: gradio's queue, made fair between clients and limited to events with a listener.

Knows gradio's queue and the open streams; no models and no pages. It differs from gradio's in four ways: the number of
places per client is limited; clients take turns, however many places each has; an event without a listener never runs;
and it looks at an empty queue fifty times a second, not a thousand times.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import gradio as gr
from fastapi import HTTPException
from gradio.queueing import Event, EventQueue, Queue

from evovlm_app.load.allowance import Allowance
from evovlm_app.load.open_streams import OpenStreams
from evovlm_app.words import say

# Seconds between looks at an empty queue, and at the progress of answers. Gradio looks every millisecond and every ten,
# which takes 7 % of a core while nobody asks anything.
LOOK_AGAIN = 0.02
PROGRESS_EVERY = 0.05
SWEEP_EVERY = 0.25  # seconds between searches for events without a listener
T = TypeVar("T")
log = logging.getLogger(__name__)


class FairQueue(Queue):  # type: ignore[misc]  # gradio is untyped here
    """Replaces a page's queue. `session_joined` is called with the session of each accepted event."""

    def __init__(
        self, page: gr.Blocks, open_streams: OpenStreams, allowance: Allowance, session_joined: Callable[[str], object]
    ) -> None:
        before = page._queue
        super().__init__(
            live_updates=before.live_updates,
            concurrency_count=before.max_thread_count,
            update_intervals=before.update_intervals,
            max_size=before.max_size,
            blocks=page,
            default_concurrency_limit=before.default_concurrency_limit,
        )
        # Gradio's queue drops the oldest of 2,000 sessions, and stops for good if that one is still waiting.
        self.pending_messages_per_session: dict[str, Any] = {}
        self.ANALYTICS_MAX_EVENTS = 0
        self.sleep_when_free = LOOK_AGAIN
        self.progress_update_sleep_when_free = PROGRESS_EVERY
        self._open_streams = open_streams
        self._allowance = allowance
        self._session_joined = session_joined
        self._swept = 0.0

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Like gradio's, but raises HTTPException (429) if the client has no place left."""
        if self.waiting(client_of(request)) >= self._allowance.waiting:
            raise HTTPException(429, say("too_many_waiting", "en"))
        pushed = await super().push(body=body, request=request, username=username)
        if pushed[0]:
            self._session_joined(body.session_hash)
        return pushed

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The next event to run: the first that has a listener and whose client has no event of this kind running.

        Gradio's takes the first of all events. No event of this app runs in batches.
        """
        self._sweep()
        with_room = [
            queue for queue in self.event_queue_per_concurrency_id.values() if queue.queue and _has_room(queue)
        ]
        random.shuffle(with_room)
        for queue in with_room:
            running = self._running(queue.concurrency_id)
            for event in queue.queue:
                if self._open_streams.listens(event.session_hash) and client_of(event.request) not in running:
                    queue.queue.remove(event)
                    return [event], False, queue.concurrency_id
        return None

    def broadcast_estimations(self, concurrency_id: str, after: int | None = None) -> None:
        """Reorder the queue, and send every client its place. Gradio calls this whenever an event joins or is served.

        `after` is ignored: a new event may overtake others, and their clients need their new places.
        """
        queue = self.event_queue_per_concurrency_id[concurrency_id]
        heard = [event for event in queue.queue if self._open_streams.listens(event.session_hash)]
        unheard = [event for event in queue.queue if not self._open_streams.listens(event.session_hash)]
        running = self._running(concurrency_id)
        queue.queue[:] = in_turns(heard, [client_of(event.request) for event in heard], running) + unheard
        super().broadcast_estimations(concurrency_id)

    def send_message(self, event: Event, event_message: Any) -> None:
        """Like gradio's, but drops messages for a deleted session; gradio's queue would stop for good."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Do nothing. Gradio's sums up 10,000 events after every event, for a monitoring page that is disabled here."""
        return self.cached_event_analytics_summary

    def waiting(self, client: str) -> int:
        """The number of a client's waiting events."""
        return sum(
            client_of(event.request) == client
            for queue in self.event_queue_per_concurrency_id.values()
            for event in queue.queue
        )

    def listened(self, session: str) -> None:
        """A stream for this session was opened: reorder the queues, so that its events take their turns."""
        for queue in list(self.event_queue_per_concurrency_id.values()):
            if any(event.session_hash == session for event in queue.queue):
                self.broadcast_estimations(queue.concurrency_id)

    def session_of(self, event_id: str) -> str:
        """The session of an event. If the client gave no session, it has the event's own id."""
        event = self.event_ids_to_events.get(event_id)
        return event_id if event is None else event.session_hash

    def is_busy(self, session: str) -> bool:
        """Whether an event of the session is waiting or running."""
        return any(event in self.event_ids_to_events for event in self.pending_event_ids_session.get(session, ()))

    def forget(self, session: str) -> None:
        """Delete the queue's data of a session that is not busy."""
        self.pending_messages_per_session.pop(session, None)
        self.pending_event_ids_session.pop(session, None)
        self.blocks.pending_streams.pop(session, None)
        self.blocks.pending_diff_streams.pop(session, None)

    def _running(self, concurrency_id: str) -> set[str]:
        """The clients that have an event of this kind running."""
        events = [event for job in self.active_jobs if job is not None for event in job]
        return {client_of(event.request) for event in events if event.concurrency_id == concurrency_id}

    def _sweep(self) -> None:
        """Drop events that have waited for `heard_within` seconds and have no listener."""
        now = time.monotonic()
        if now - self._swept < SWEEP_EVERY:
            return
        self._swept = now
        for queue in self.event_queue_per_concurrency_id.values():
            late = [
                event
                for event in queue.queue
                if now - event.enqueue_time > self._allowance.heard_within
                and not self._open_streams.listens(event.session_hash)
            ]
            for event in late:
                queue.queue.remove(event)
                self.event_ids_to_events.pop(event._id, None)
                self.pending_event_ids_session.get(event.session_hash, set()).discard(event._id)
            if late:
                log.info("unheard", extra={"facts": {"dropped": len(late)}})
                self.broadcast_estimations(queue.concurrency_id)


def in_turns(items: Sequence[T], clients: Sequence[str], running: Collection[str]) -> list[T]:
    """Items in the order in which clients take turns: first one per client, then a second per client, and so on.

    `clients[i]` is the client of `items[i]`. Clients in `running` have had their first turn. Within a turn the order
    is kept.
    """
    seen: Counter[str] = Counter(running)
    turns = []
    for client in clients:
        turns.append(seen[client])
        seen[client] += 1
    order = sorted(range(len(items)), key=turns.__getitem__)
    return [items[index] for index in order]


def client_of(request: Any) -> str:
    """The client of a request, as set by RequestLimits."""
    client: str = request.state.client
    return client


def _has_room(queue: EventQueue) -> bool:
    return queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit
