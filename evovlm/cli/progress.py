"""Progress on standard error: bars on a terminal, lines elsewhere, JSON lines for machines. Knows rich.

Each phase has one clock: the time left while that can be said, else the time so far; at its end, the time it took.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from evovlm.cli.console import ERR, note
from evovlm.system.progress import Watch
from evovlm.system.units import duration

SILENT = 2.0  # seconds that work of unknown length may take without a word
PAUSE = 15.0  # seconds between two lines, at first
LONGEST_PAUSE = 600.0
CALM = 20  # a line is printed each time that a phase has become longer by this part of itself


@dataclass
class Phase:
    """What is known of a phase. `total` 0: unknown. `quiet`: seconds until it is shown. Times are of a steady clock."""

    name: str
    total: int
    began: float
    quiet: float = 0.0
    done: int = 0
    part: str = ""  # the step being made
    answered: tuple[int, int] = (0, 0)  # its questions: answered, and in total
    counted: bool = True  # whether the number of steps says something to people
    best: float | None = None
    failed: int = 0
    ended: float | None = None
    # For the time left: when the first step that was made, not found, began; and how many were found.
    started: float = 0.0
    resumed: int = 0  # in a log, before the others
    silent: int = 0  # steps of which no part was heard: their answers were known
    heard: bool = False  # whether parts of any step are heard; of a search on other machines, none is

    def __post_init__(self) -> None:
        self.started = self.began

    @property
    def within(self) -> float:
        """How much of the step being made is done, 0 to 1."""
        return self.answered[0] / self.answered[1] if self.answered[1] else 0.0

    def step(self, figures: dict[str, float | None]) -> None:
        """Count a step."""
        self.done += 1
        if self.total:
            self.total = max(self.total, self.done)
        self.silent += not self.part
        self.part, self.answered = "", (0, 0)
        if "score" in figures:
            score = figures["score"]
            self.failed += score is None
            if score is not None:
                self.best = score if self.best is None else max(self.best, score)

    def resume(self, now: float) -> None:
        """All steps so far were found in a log; time counts from now."""
        self.resumed, self.started = self.done, now

    def left(self, now: float) -> float | None:
        """Seconds that the phase still takes, by the steps made so far; None if there is nothing to judge by."""
        made = self.done + self.within - (self.silent if self.heard else self.resumed)
        if not self.total or made <= 0:
            return None
        return (now - self.started) / made * (self.total - self.done - self.within)

    def clock(self, now: float) -> str:
        """The one clock of the phase, in words."""
        if self.ended is not None:
            return f"took {duration(self.ended - self.began)}"
        left = self.left(now)
        if left is None:
            return f"{duration(now - self.began)} so far"
        return f"{duration(max(1.0, left))} left"

    def count(self) -> str:
        """How many steps are done, and of how many."""
        return f"{self.done}/{self.total}" if self.total and self.counted else ""

    def figures(self) -> str:
        """The step being made, and the scores so far."""
        asked = f" {self.answered[0]}/{self.answered[1]}" if self.answered[1] else ""
        told = [f"{self.part}{asked}"] if self.part else []
        told += [f"best {self.best:.2f}"] if self.best is not None else []
        told += [f"failed {self.failed}"] if self.failed else []
        return ", ".join(told)


class Screen(Protocol):
    """Where phases are shown."""

    def opened(self, phase: Phase) -> None:
        """A phase has started."""

    def changed(self, phase: Phase) -> None:
        """Something happened in it."""

    def closed(self, phase: Phase) -> None:
        """It has ended."""

    def note(self, text: str) -> None:
        """Show a sentence."""


class ShownWatch:
    """A watch with all optional methods, which shows phases on a screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._phase: Phase | None = None

    def phase(self, name: str, total: int) -> None:
        """Start a new phase; the one before it has ended."""
        self.close()
        self._phase = Phase(name, total, time.monotonic())
        self._screen.opened(self._phase)

    def step(self, text: str, **figures: float | None) -> None:
        """Count a step; show its score if it has one."""
        phase = self._now()
        phase.step(figures)
        self._changed(phase)

    def part(self, text: str, done: int, total: int) -> None:
        """Show the step being made, and how many of its questions are answered."""
        phase = self._now()
        phase.part, phase.answered, phase.heard = text, (done, total), True
        self._screen.changed(phase)

    def at(self, done: int, total: int, text: str = "", *, found: int = 0, counted: bool = True) -> None:
        """Set how much of the phase is done; `found` more of it took no time. `counted`: show the numbers too."""
        if self._phase is not None and self._phase.ended is not None and done >= total:
            return  # it has been told
        phase = self._now()
        if total and not phase.total:
            phase.started = time.monotonic()  # what came before, such as loading a model, comes once
        phase.done, phase.total, phase.part, phase.counted = done, total, text, counted
        phase.resumed += found
        self._changed(phase)

    def work(self, text: str) -> None:
        """Begin the next step of a phase of unknown length; the one before is done."""
        phase = self._now()
        phase.done += bool(phase.part)
        phase.part = text
        self._screen.changed(phase)

    def _now(self) -> Phase:
        """The phase; one with the same name if more is done than was foreseen."""
        assert self._phase is not None, "no phase has begun"
        if self._phase.ended is not None:
            self.phase(self._phase.name, 0)
        return self._phase

    def _changed(self, phase: Phase) -> None:
        """Show a change. A phase whose steps are all done has ended, even if the next one does not begin at once."""
        self._screen.changed(phase)
        if phase.total and phase.done >= phase.total:
            self._end(phase)

    def _end(self, phase: Phase) -> None:
        if phase.ended is None:
            phase.ended = time.monotonic()
            self._screen.closed(phase)

    def resumed(self) -> None:
        """All steps so far were found in a log."""
        assert self._phase is not None, "no phase has begun"
        self._phase.resume(time.monotonic())

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show work of unknown length, if it takes longer than a moment."""
        phase = Phase(text, 0, time.monotonic(), quiet=SILENT)
        self._screen.opened(phase)
        try:
            yield
        finally:
            phase.ended = time.monotonic()
            self._screen.closed(phase)

    def note(self, text: str) -> None:
        """Show a sentence."""
        self._screen.note(text)

    def close(self) -> None:
        """End the phase."""
        if self._phase is not None:
            self._end(self._phase)
            self._phase = None


class _Clock(ProgressColumn):
    """The phase's one clock."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        phase: Phase = task.fields["phase"]
        return Text(phase.clock(time.monotonic()), style="cyan")


class BarScreen:
    """Phases as bars of a terminal, a line each, whatever its width."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[int, TaskID] = {}
        self._timers: dict[int, threading.Timer] = {}

    @staticmethod
    def bars() -> Bars:
        """The bars themselves, on standard error."""
        return Bars(
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
            completed=phase.done + phase.within,
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
        """Print the phase's size; one of unknown length is told only after a moment."""
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
            count = f"{phase.done} done, " if phase.done else ""
            best = f"best {phase.best:.2f}, " if phase.best is not None else ""
            failed = f"failed {phase.failed}, " if phase.failed else ""
            ERR.print(f"{phase.name}: {count}{best}{failed}{phase.clock(0.0)}", soft_wrap=True)

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


class JsonWatch:
    """Shows a search as JSON lines on standard output, for machines."""

    def __init__(self, pause: float) -> None:
        self._pause, self._next = pause, 0.0

    def phase(self, name: str, total: int) -> None:
        """Print one line per phase."""
        self._print({"phase": name, "total": total})

    def step(self, text: str, **figures: float | None) -> None:
        """Print one line per step."""
        self._print({"step": text, **figures})

    def part(self, text: str, done: int, total: int) -> None:
        """Print a line now and then."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._pause
            self._print({"asked": text, "answered": done, "questions": total})

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Print one line."""
        self._print({"busy": text})
        yield

    def note(self, text: str) -> None:
        """Print one line."""
        self._print({"note": text})

    def _print(self, row: dict[str, object]) -> None:
        print(json.dumps(row, ensure_ascii=False), flush=True)


@contextmanager
def shown() -> Iterator[ShownWatch]:
    """Bars on a terminal, plain lines otherwise."""
    if ERR.is_terminal:
        with BarScreen.bars() as bars:
            watch = ShownWatch(BarScreen(bars))
            yield watch
            watch.close()
        return
    lines = LineScreen(PAUSE)
    try:
        watch = ShownWatch(lines)
        yield watch
        watch.close()
    finally:
        lines.close()


@contextmanager
def watching(*, as_json: bool) -> Iterator[Watch]:
    """How a search is shown: JSON lines with --json, else as `shown` says."""
    if as_json:
        yield JsonWatch(PAUSE)
    else:
        with shown() as watch:
            yield watch


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what the command does, if that takes longer than a moment."""
    with shown() as watch, watch.busy(text):
        yield
