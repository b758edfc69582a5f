"""A pool of forked processes that work on numbered tasks, because threads gain nothing under Python's GIL.

Knows processes and pipes; not what a task is. The processes end with their parent, however it ends.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from evovlm.system.child import die_with_parent
from evovlm.system.torch_threads import one_torch_thread

T = TypeVar("T")
SPARE_FILES = 16  # that a task may open, beside what is open already
Crew = dict[Connection, BaseProcess]


class MemberLost(RuntimeError):
    """A worker process ended without returning a result; usually the system killed it for its memory use."""


def can_fork() -> bool:
    """Whether this process may fork workers: on Linux, and not itself a daemonic worker of some pool.

    Elsewhere fork does not exist (Windows) or breaks the system's own libraries (macOS).
    """
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def share_out(tasks: Sequence[int], do: Callable[[int], T], done: Callable[[int, T], None], members: int) -> None:
    """Run each task once, started in the given order; call `done` in this process with each result as it arrives.

    members: number of worker processes; with one, or if `can_fork` is false, the tasks run in this process. A forked
    worker sees the memory of this process at the time of the call (copy on write) and sends back only the result,
    pickled. An exception in a task is raised here, and the other workers are stopped at once, as on Ctrl-C.
    Meanwhile torch computes on one thread, in each process. Raises MemberLost if a worker ends without a result.
    """
    members = min(members, _most_members())
    if members < 2 or not can_fork():
        with one_torch_thread():
            for task in tasks:
                done(task, do(task))
        return
    waiting = iter(tasks)
    # A forked process has none of this one's threads: torch, if it had used some, would wait for them for ever.
    with one_torch_thread(), _crew(do, members) as crew:
        busy: dict[Connection, int] = {}
        idle = list(crew)
        while True:
            for member in idle:
                for task in islice(waiting, 1):
                    busy[member] = task
                    _hand(member, task)
            if not busy:
                return
            idle = [member for member in wait(list(busy)) if isinstance(member, Connection)]
            for member in idle:
                done(busy.pop(member), _answer(member, crew[member]))


def _most_members() -> int:
    """How many workers the limit of open files allows: each takes a pipe and a sentinel, and more while it starts."""
    if not can_fork():
        return 1
    import resource  # not on every system

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (allowed - len(os.listdir("/proc/self/fd")) - SPARE_FILES) // 3)


def _hand(member: Connection, task: int) -> None:
    try:
        member.send(task)
    except OSError as error:
        raise MemberLost("a worker process ended before its work was done") from error


def _answer(member: Connection, process: BaseProcess) -> Any:
    try:
        answer, error = member.recv()
    except (EOFError, OSError) as lost:
        process.join(1.0)
        raise MemberLost(f"a worker process ended with exit code {process.exitcode}") from lost
    if error is not None:
        raise error
    return answer


@contextmanager
def _crew(do: Callable[[int], Any], members: int) -> Iterator[Crew]:
    """Forked workers, keyed by the pipe to each; they are killed when the block ends."""
    context = multiprocessing.get_context("fork")
    crew: Crew = {}
    here = os.getpid()
    # A worker inherits the signal mask: Ctrl-C reaches only this process, which then stops the workers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            for _ in range(members):
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(target=_serve, args=(theirs, do, here), daemon=True)
                crew[ours] = process
                with warnings.catch_warnings():
                    # A worker calls nothing that other threads (such as a progress bar's) may have locked.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                theirs.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield crew
    finally:
        for ours, process in crew.items():
            if process.pid is not None:
                process.kill()
                process.join()
            ours.close()


def _serve(pipe: Connection, do: Callable[[int], Any], parent: int) -> None:
    """A worker's loop: receive tasks, send results, until it is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent)
    gc.freeze()  # otherwise the collector's marks would copy every memory page that holds an object
    while True:
        task = pipe.recv()
        answer: tuple[Any, Exception | None]
        try:
            answer = (do(task), None)
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = (None, error)
        try:
            pipe.send(answer)
        except (TypeError, AttributeError, ValueError) as unsent:  # cannot be pickled
            pipe.send((None, RuntimeError(f"{answer[1] or answer[0]!r} could not be sent: {unsent}")))
