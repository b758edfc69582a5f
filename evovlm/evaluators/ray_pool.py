"""A pool of evaluators on Ray: one actor per GPU or CPU; it handles lost, hanging and joining workers.

Knows Ray, and a function that opens an evaluator; no searchers, models or study files. A candidate whose worker dies or
exceeds the time limit is given to another worker, for `ATTEMPTS` attempts in total; then it is returned as failed.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from evovlm.evaluators._ray_guard import guarded_folder
from evovlm.evaluators.pool import Outcome
from evovlm.system.errors import MachineFault, UserError
from evovlm.system.faults import Unforeseen, failure_of

try:
    import ray
    from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise UserError("Ray is not installed; install it with: pip install 'evovlm[ray]'") from error

ATTEMPTS = 3
# The pool gives up after this many workers in a row died before they were ready.
FAILED_OPENINGS = 5
LOOK_AROUND = 2.0  # seconds between checks of the cluster's size and of the time limits
LATE = "time limit"
STDERR = 2
MOST_SHOWN = 200  # characters of Ray's own message
PATIENCE = 10.0  # seconds within which a cluster's address must answer
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
LOCAL_STORE = 200 * 2**20  # bytes of Ray's object store on our own cluster: it holds only recipes and answers

OnEvent = Callable[..., None]
Opener = Callable[[], Callable[[Any], Any]]


@dataclass(frozen=True)
class _Stopped:
    """Why a worker could not evaluate a candidate that is not at fault. `retry`: another worker may succeed."""

    reason: str
    retry: bool


class _Worker:
    """Runs in its own process: opens the evaluator once, then evaluates candidates."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    def open(self) -> tuple[str, str | None]:
        """Open the evaluator; returns the worker's name (HOST:PID), and the message of a UserError or None."""
        name = f"{platform.node()}:{os.getpid()}"
        try:
            self._judge = self._opener()
        except UserError as error:
            return name, str(error)
        return name, None

    def judge(self, work: Any) -> Any:
        """Return the evaluation, the candidate's failure as text, or a `_Stopped`."""
        try:
            return self._judge(work)
        except Exception as fault:
            try:
                return failure_of(fault)
            except UserError as stop:
                return _Stopped(str(stop), retry=isinstance(stop, MachineFault))
            except OSError as stop:
                return _Stopped(str(stop), retry=True)


@dataclass
class _Slot:
    """One actor and its state. `work`: None if idle, "open" while loading, else a ticket."""

    actor: Any
    name: str = ""
    ref: Any = None
    work: int | str | None = None
    since: float = 0.0


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Context manager: connect to a Ray cluster.

    `address`: `local` starts our own cluster, which ends with this process, however it ends; `auto` uses the one
    running on this machine, else starts our own; otherwise a cluster's address. Raises UserError if no cluster answers
    there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _refuse_silent(address)
    if address != "local" and _joined(address):
        try:
            yield
        finally:
            ray.shutdown()
        return
    own: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": LOCAL_STORE}
    with guarded_folder() as folder:
        ray.init(**own, **QUIET, _temp_dir=str(folder))
        try:
            yield
        finally:
            ray.shutdown()


def refuse_unanswered(address: str) -> None:
    """Raise UserError if no cluster answers at an address; called before a search makes its folder."""
    if address not in ("local", "auto"):
        _refuse_silent(address)
        _joined(address)
        ray.shutdown()


def _joined(address: str) -> bool:
    """Whether there was a cluster to connect to; only `auto` may find none. Raises UserError for another address."""
    try:
        with without_output():
            ray.init(address=address, **QUIET)
    except Exception as error:  # Ray has an exception for each way in which nobody may answer
        if address != "auto":
            said = next(iter(str(error).strip().splitlines()), "")[:MOST_SHOWN]
            raise UserError(f"{_nobody(address)} ({type(error).__name__}: {said})") from None
        if not isinstance(error, ConnectionError):
            raise
        return False
    return True


@contextmanager
def without_output() -> Iterator[None]:
    """Drop what is written on standard error's file: Ray's compiled part reports there, besides its exceptions."""
    try:
        true = os.dup(STDERR)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(true, STDERR)
        os.close(true)


def _refuse_silent(address: str) -> None:
    """Raise UserError if nothing listens at HOST:PORT; Ray itself would keep trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise UserError(f"{_nobody(address)} ({error})") from None


def _nobody(address: str) -> str:
    return f"--ray {address}: no Ray cluster answers there; start one with `ray start --head`, or use `--ray local`"


class RayPool:
    """Workers on the connected cluster. `on_event(event, **details)` is called when a worker joins or is lost.

    `workers`: their number; None for one per unit of the cluster's `resource` ("GPU" or "CPU"), growing as nodes join.
    `limit`: seconds that a candidate may take; None for no limit. Raises UserError if the cluster has no `resource`.
    """

    def __init__(
        self, opener: Opener, *, workers: int | None, resource: str, limit: float | None, on_event: OnEvent
    ) -> None:
        self._opener = ray.put(opener)
        self._fixed = workers
        self._resource = resource
        self._limit = limit
        self._on_event = on_event
        self._slots: list[_Slot] = []
        self._jobs: dict[int, tuple[Any, int]] = {}  # ticket -> work, attempts so far
        self._again: list[int] = []  # tickets whose worker was lost
        self._given_up: list[Outcome] = []
        self._failed_openings = 0
        self._looked = 0.0
        self._grow()
        if not self._slots:
            raise UserError(f"the Ray cluster has no {resource}; set --workers N, or choose another --device")

    @property
    def size(self) -> int:
        """Number of workers, ready or not."""
        return len(self._slots)

    def free(self) -> int:
        """Return how many more candidates can be submitted now."""
        return max(0, sum(slot.work is None for slot in self._slots) - len(self._again))

    def submit(self, ticket: int, work: Any) -> None:
        """Give work to a free worker. It is sent by value."""
        self._jobs[ticket] = (work, 0)
        self._start(next(slot for slot in self._slots if slot.work is None), ticket)

    def wait(self) -> Sequence[Outcome]:
        """Wait for outcomes and return them; empty if a worker became free without an outcome.

        Raises MachineFault if what a machine lacks stopped one candidate ATTEMPTS times, and UserError if a worker
        cannot open its evaluator or too many workers in a row die while loading.
        """
        while True:
            refs = [slot.ref for slot in self._slots if slot.ref is not None]
            ready, _ = ray.wait(refs, timeout=LOOK_AROUND) if refs else ([], [])
            if ready:  # also collect all others that are ready by now
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            if not refs:
                time.sleep(LOOK_AROUND / 10)
            for slot in [slot for slot in self._slots if slot.ref in ready]:
                self._receive(slot)
            self._stop_hanging()
            if time.monotonic() - self._looked > LOOK_AROUND:
                self._grow()
            for slot in self._slots:
                if slot.work is None and self._again:
                    self._start(slot, self._again.pop(0))
            came, self._given_up = self._given_up, []
            if came or self.free():
                return came

    def close(self) -> None:
        """Stop all workers."""
        for slot in self._slots:
            _end(slot.actor)
        self._slots = []

    def _start(self, slot: _Slot, ticket: int) -> None:
        work, attempts = self._jobs[ticket]
        self._jobs[ticket] = (work, attempts + 1)
        slot.ref, slot.work, slot.since = slot.actor.judge.remote(work), ticket, time.monotonic()

    def _receive(self, slot: _Slot) -> None:
        """Handle a worker's result: it is ready, an evaluation, or its loss."""
        work = slot.work
        try:
            said = ray.get(slot.ref)
        except RayTaskError as error:  # neither a candidate's error nor a lost worker but a bug: raise it unchanged
            raise error.as_instanceof_cause() from None
        except RayError as error:
            self._lose(slot, "worker lost", _reason(error), lacking=isinstance(error, OutOfMemoryError))
            return
        if isinstance(said, _Stopped):
            if not said.retry:
                raise UserError(f"{slot.name}: {said.reason}")
            self._lose(slot, "worker stopped", said.reason, lacking=True)
            return
        slot.ref = slot.work = None
        if isinstance(work, int):
            self._jobs.pop(work)
            self._given_up.append(Outcome(work, said, slot.name))
            return
        slot.name, mistake = said
        if mistake is not None:
            raise UserError(mistake)
        self._failed_openings = 0
        self._on_event("worker joined", worker=slot.name)

    def _lose(self, slot: _Slot, event: str, reason: str, *, lacking: bool = False) -> None:
        """Replace a worker; its candidate is tried again, or returned as failed.

        lacking: its machine lacks something, so that the candidate cannot be blamed.
        """
        _end(slot.actor)
        self._slots.remove(slot)
        ticket = slot.work if isinstance(slot.work, int) else None
        self._on_event(event, worker=slot.name or None, ask=ticket, reason=reason)
        if ticket is None:
            self._failed_openings += 1
            if self._failed_openings >= FAILED_OPENINGS:
                raise UserError(f"{FAILED_OPENINGS} workers in a row died while loading: {reason}")
        elif self._jobs[ticket][1] < ATTEMPTS:
            self._again.append(ticket)
        elif lacking:
            raise MachineFault(f"{slot.name}: {reason} (tried {ATTEMPTS} times)")
        else:
            self._jobs.pop(ticket)
            text = f"{event}, {ATTEMPTS} times: {reason}"
            self._given_up.append(Outcome(ticket, text if event == LATE else Unforeseen(text), slot.name))
        self._grow()

    def _stop_hanging(self) -> None:
        if self._limit is None:
            return
        late = time.monotonic() - self._limit
        for slot in [slot for slot in self._slots if isinstance(slot.work, int) and slot.since < late]:
            self._lose(slot, LATE, f"no answer in {self._limit:g} seconds")

    def _grow(self) -> None:
        """Start the missing workers, up to the requested number or the cluster's size; the rest wait for a node."""
        self._looked = time.monotonic()
        wanted = self._fixed
        if wanted is None:
            wanted = int(ray.cluster_resources().get(self._resource, 0))
        needs = {"num_gpus": 1} if self._resource == "GPU" else {"num_cpus": 1}
        while len(self._slots) < wanted:
            actor = ray.remote(_Worker).options(max_restarts=0, **needs).remote(self._opener)
            self._slots.append(_Slot(actor, ref=actor.open.remote(), work="open"))


def _end(actor: Any) -> None:
    with suppress(RayError, ValueError):
        ray.kill(actor)


def _reason(error: Exception) -> str:
    """The type and first line of a Ray error, for the log."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
