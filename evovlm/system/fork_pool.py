"""A crew: numbered tasks shared out among forked processes, for threads that take turns at Python's lock gain nothing.

Knows processes and pipes; not what a task is. The processes end with the one that started them, however it ends.
"""

from __future__ import annotations

import ctypes
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

T = TypeVar("T")
Crew = dict[Connection, BaseProcess]
_DIE_WITH_PARENT = 1  # Linux: prctl's PR_SET_PDEATHSIG


class MemberLost(RuntimeError):
    """A process of the crew ended without an answer; most often the system took it for its memory."""


def can_fork() -> bool:
    """Whether a crew may be more than this process: Linux, and not itself a member of some daemonic pool.

    Elsewhere forking is not there (Windows) or breaks the system's own libraries (macOS).
    """
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def share_out(tasks: Sequence[int], do: Callable[[int], T], done: Callable[[int, T], None], members: int) -> None:
    """Do each task once, begun in the order given, and hand every answer to `done`, here, in the order they come.

    members: processes at a time; with one, or where `can_fork` says no, the tasks run in this process. A forked
    member sees what this process held at the call (nothing is copied until it is written to) and sends back the
    answer alone, pickled. What a task raises is raised here, and the other members end at once, as they do on Ctrl-C.
    Raises MemberLost.
    """
    if members < 2 or not can_fork():
        for task in tasks:
            done(task, do(task))
        return
    waiting = iter(tasks)
    with _crew(do, members) as crew:
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


def _hand(member: Connection, task: int) -> None:
    try:
        member.send(task)
    except OSError as error:
        raise MemberLost("a process of the crew ended before its work did") from error


def _answer(member: Connection, process: BaseProcess) -> Any:
    try:
        answer, error = member.recv()
    except (EOFError, OSError) as lost:
        process.join(1.0)
        raise MemberLost(f"a process of the crew ended with code {process.exitcode}") from lost
    if error is not None:
        raise error
    return answer


@contextmanager
def _crew(do: Callable[[int], Any], members: int) -> Iterator[Crew]:
    """Forked processes by the pipe to each; gone when the block is left."""
    context = multiprocessing.get_context("fork")
    crew: Crew = {}
    here = os.getpid()
    # A member inherits the mask: an interrupt at the terminal reaches this process alone, which ends the others.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            for _ in range(members):
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(target=_serve, args=(theirs, do, here), daemon=True)
                crew[ours] = process
                with warnings.catch_warnings():
                    # A member calls none of what other threads (a progress bar's) may hold locked.
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
    """A member's life: tasks in, answers out, until it is ended."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the line above
    gc.freeze()  # else the collector's marks would copy every page that holds an object
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
        except (TypeError, AttributeError, ValueError) as unsent:  # no pickle of it
            pipe.send((None, RuntimeError(f"{answer[1] or answer[0]!r} could not be sent: {unsent}")))
