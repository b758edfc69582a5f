"""A phase of long work: how far it is, and how long still. Knows counts and a steady clock; shows nothing."""

from __future__ import annotations

from dataclasses import dataclass

from evovlm.system.units import duration


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
    together: int = 0  # steps that are made at once and not told yet
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
        """How much of the step being made is done, 0 to 1; of steps made together, up to their number."""
        return max(1, self.together) * self.answered[0] / self.answered[1] if self.answered[1] else 0.0

    def ask(self, part: str, answered: tuple[int, int], steps: int) -> None:
        """A step is being made, or several together."""
        self.part, self.answered, self.together, self.heard = part, answered, steps, True

    def step(self, figures: dict[str, float | None]) -> None:
        """Count a step."""
        self.done += 1
        if self.total:
            self.total = max(self.total, self.done)
        self.silent += not (self.part or self.together)
        self.together = max(0, self.together - 1)
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
        total = max(self.total, self.done + self.together)  # steps made together are made to the last
        return (now - self.started) / made * (total - self.done - self.within)

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
