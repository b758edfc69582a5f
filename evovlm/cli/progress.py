"""Progress on standard error: bars on a terminal, lines elsewhere, JSON lines for machines.

Each phase has one clock: the time left while that can be said, else the time so far; at its end, the time it took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evovlm.cli._phase import Phase
from evovlm.cli._screens import BarScreen, LineScreen, Screen
from evovlm.cli.console import ERR
from evovlm.system.progress import Watch

SILENT = 2.0  # seconds that work of unknown length may take without a word
PAUSE = 15.0  # seconds between two lines, at first


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

    def part(self, text: str, done: int, total: int, steps: int = 1) -> None:
        """Show the step being made, or `steps` made together, and how many of the questions are answered."""
        phase = self._now()
        phase.ask(text, (done, total), steps)
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
    def busy(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show work of unknown length, if it takes longer than a moment.

        Gives a function that says what is being done of it. Work that fails did not take a time: the error follows.
        """
        phase = Phase(text, 0, time.monotonic(), quiet=SILENT)
        self._screen.opened(phase)

        def doing(part: str) -> None:
            phase.part = part
            self._screen.changed(phase)

        try:
            yield doing
        except BaseException:
            self._screen.dropped(phase)
            raise
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

    def part(self, text: str, done: int, total: int, steps: int = 1) -> None:
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
        before, ERR.stays_terminal = ERR.stays_terminal, True
        try:
            with BarScreen.bars() as bars:
                watch = ShownWatch(BarScreen(bars))
                yield watch
                watch.close()
        finally:
            ERR.stays_terminal = before
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
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Say what the command does, if that takes longer than a moment; see `ShownWatch.busy`."""
    with shown() as watch, watch.busy(text) as doing:
        yield doing
