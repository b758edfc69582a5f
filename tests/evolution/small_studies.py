"""Whole searches with the smallest models, in a folder of their own: how to run them, and what the user is told."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evovlm.evolution.plan import EvolveSettings
from evovlm.evolution.stages import evolve_stages
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study.result import Result

MADE = Path(__file__).parent.parent / "fixtures" / "studies"
SMALL = EvolveSettings(trials=3, items=6, judged=8)


@dataclass
class Noting:
    """A watch that keeps what the user is told, and can stop the search in a phase."""

    stop: str = ""
    notes: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def phase(self, name: str, total: int) -> None:
        self.phases.append(name)
        if name == self.stop:
            raise KeyboardInterrupt

    def step(self, text: str, **figures: float | None) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def evolve(
    place: Path, out: str, recipe: str | Recipe = "one-stage.yaml", watch: Noting | None = None, **changes: Any
) -> Result:
    """Run a search in a folder with models, data and recipes; the same call resumes it."""
    found = recipe if isinstance(recipe, Recipe) else read_recipe(place / recipe)
    return evolve_stages(found, place, replace(SMALL, **changes), place / out, watch or Noting())
