"""Where phases are shown: as bars of a terminal, or as lines. Knows rich and phases; not what the work is."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from evovlm.cli._phase import Phase
from evovlm.cli.console import ERR, note

LONGEST_PAUSE = 600.0  # seconds between two lines
CALM = 20  # a line is printed each time that a phase has become longer by this part of itself


class Screen(Protocol):
    """Where phases are shown."""

    def opened(self, phase: Phase) -> None:
        """A phase has started."""

    def changed(self, phase: Phase) -> None:
        """Something happened in it."""

    def closed(self, phase: Phase) -> None:
        """It has ended."""

    def dropped(self, phase: Phase) -> None:
        """It failed: nothing more is shown of it."""

    def note(self, text: str) -> None:
        """Show a sentence."""


class _Clock(ProgressColumn):
    """The phase's one clock."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        phase: Phase = task.fields["phase"]
        return Text(phase.clock(time.monotonic()), style="cyan")


class BarScreen:
    """Phases as bars of a terminal, a line each, whatever its width."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[int, TaskID] = {}
        self._timers: dict[int, threading.Timer] = {}

    @staticmethod
    def bars() -> Progress:
        """The bars themselves, on standard error."""
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.fields[figures]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            _Clock(table_column=Column(no_wrap=True, justify="right")),
            console=ERR,
            transient=False,
            expand=True,
        )

    def opened(self, phase: Phase) -> None:
        """Add a bar; one of unknown length is shown only after a moment."""
        task = self._bars.add_task(
            phase.name, total=phase.total or None, figures="", count="", phase=phase, visible=not phase.quiet
        )
        self._tasks[id(phase)] = task
        if phase.quiet:
            timer = threading.Timer(phase.quiet, self._show, [task])
            timer.daemon = True
            timer.start()
            self._timers[id(phase)] = timer
        self.changed(phase)

    def _show(self, task: TaskID) -> None:
        with suppress(KeyError):  # the work has just ended
            self._bars.update(task, visible=True)

    def changed(self, phase: Phase) -> None:
        """Redraw the bar."""
        self._bars.update(
            self._tasks[id(phase)],
            total=phase.total or None,
            completed=min(phase.done + phase.within, phase.total or phase.done + phase.within),
            count=phase.count(),
            figures=phase.figures(),
        )

    def closed(self, phase: Phase) -> None:
        """Leave the bar with the time it took; remove one that was never shown."""
        task = self._tasks.pop(id(phase))
        timer = self._timers.pop(id(phase), None)
        if timer is not None:
            timer.cancel()
        if timer is not None and not self._bars.tasks[self._bars.task_ids.index(task)].visible:
            self._bars.remove_task(task)
            return
        phase.part, phase.answered = "", (0, 0)
        self._bars.update(
            task, total=max(1, phase.done), completed=max(1, phase.done), count=phase.count(), figures=phase.figures()
        )

    def dropped(self, phase: Phase) -> None:
        """Remove the bar."""
        timer = self._timers.pop(id(phase), None)
        if timer is not None:
            timer.cancel()
        self._bars.remove_task(self._tasks.pop(id(phase)))

    def note(self, text: str) -> None:
        """Print a sentence above the bars."""
        self._bars.console.print(f"note: {text}", markup=False)


class LineScreen:
    """Phases as lines of text, where the output is not a terminal.

    A thread prints the state of each open phase from time to time, also while nothing changes. `pause`: the least
    time between two lines, in seconds; it grows with the phase.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._open: dict[int, Phase] = {}
        self._next: dict[int, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def opened(self, phase: Phase) -> None:
        """Print the phase's size; one of unknown length is shown only after a moment."""
        with self._lock:
            self._open[id(phase)] = phase
            self._next[id(phase)] = phase.began + (phase.quiet or self._pause)
        if not phase.quiet:
            ERR.print(f"{phase.name}: {phase.total} to do" if phase.total else f"{phase.name} ...")
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def changed(self, phase: Phase) -> None:
        """Print where the phase is, unless its last line is young."""
        self._print_if_due(phase)

    def closed(self, phase: Phase) -> None:
        """Print how long it took, if it was shown."""
        with self._lock:
            del self._open[id(phase)]
            due = self._next.pop(id(phase))
        if not phase.quiet or due > phase.began + phase.quiet:
            count = f"{phase.done} done, " if phase.done and phase.counted else ""
            best = f"best {phase.best:.2f}, " if phase.best is not None else ""
            failed = f"failed {phase.failed}, " if phase.failed else ""
            ERR.print(f"{phase.name}: {count}{best}{failed}{phase.clock(0.0)}", soft_wrap=True)

    def dropped(self, phase: Phase) -> None:
        """Print nothing more of it."""
        with self._lock:
            del self._open[id(phase)]
            del self._next[id(phase)]

    def note(self, text: str) -> None:
        """Print a sentence."""
        note(text)

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(0.25):
            with self._lock:
                phases = list(self._open.values())
            for phase in phases:
                self._print_if_due(phase)

    def _print_if_due(self, phase: Phase) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._next.get(id(phase), now + 1):
                return
            # After the first line of a phase of unknown length, as seldom as for others.
            wait = max(self._pause, (now - phase.began) / CALM)
            self._next[id(phase)] = now + min(LONGEST_PAUSE, wait)
        told = [part for part in (phase.count(), phase.figures(), phase.clock(now)) if part]
        ERR.print(f"{phase.name}: {', '.join(told)}", soft_wrap=True)
