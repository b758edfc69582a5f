"""The data of a report, read from a study's folder.

Knows the study's files; no plots and no HTML. Files that a running study does not have yet are None or empty, and so
are damaged ones, each with a note; only the header's recipe and the log of trials are indispensable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from evovlm.recipe.schema import WHOLE, Recipe, value_at
from evovlm.recipe.search_settings import Search
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.header import Tell, recipe_of, sound_header
from evovlm.study.held_out_log import HeldOutAnswer, read_held_out
from evovlm.study.log import Trial
from evovlm.study.result import Atlas, Result, read_atlas, read_result
from evovlm.system import files
from evovlm.system.errors import StudyError, UserError

Row = dict[str, Any]
T = TypeVar("T")
UNKNOWN = "unknown"


class ProgressAnswer(BaseModel):
    """An answer of a candidate that was the best when it was found."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    trial: int
    id: str
    answer: str
    score: float


@dataclass(frozen=True)
class GeneName:
    """The parts of a gene's name in the study's header, such as `ja.weight.layers 0-3` or `options.lambda.whole`."""

    source: str
    parameter: str
    group: str
    of_option: bool = False


@dataclass(frozen=True)
class StudyData:
    """A study, as read from its files."""

    folder: Path
    header: Row
    recipe: Recipe  # what was searched
    winner: Recipe | None  # the best so far, or the final winner
    genes: tuple[GeneName, ...]
    trials: tuple[Trial, ...]
    result: Result | None  # None: no held-out result yet
    events: tuple[Row, ...]
    answers: tuple[ProgressAnswer, ...]
    held_out_answers: tuple[HeldOutAnswer, ...]
    images: dict[str, Path]  # by item id
    atlas: Atlas | None = None  # the best merge for each skill profile
    notes: tuple[str, ...] = ()  # what is damaged, a sentence each

    @property
    def search(self) -> Row:
        """The settings of the search, as JSON data."""
        return (self.recipe.search or Search()).model_dump(mode="json", by_alias=True)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The ids of the search items; empty if the header does not have them."""
        return tuple(self.header.get("items", {}).get("ids", ()))

    @property
    def task(self) -> str:
        """The name of the search's task."""
        return str(self.header.get("items", {}).get("task", UNKNOWN))

    @property
    def tied(self) -> int:
        """The number of candidates if the search could not tell them apart, else 0."""
        return study_log.tied(self.trials)

    @property
    def scored(self) -> list[Trial]:
        """Trials that have a score."""
        return [trial for trial in self.trials if trial.score is not None]

    @property
    def failed(self) -> list[Trial]:
        """Trials that ended in an error."""
        return [trial for trial in self.trials if trial.error is not None]

    def groups(self) -> list[str]:
        """Layer groups named by genes or the winner's parameters, in model order."""
        named = [gene.group for gene in self.genes if not gene.of_option]
        if self.winner is not None:
            own = [self.winner.of(name) for name in self.winner.source_names]
            named += [group for p in own for v in (p.weight, p.density) if isinstance(v, dict) for group in v]
        return list(dict.fromkeys(named)) or [WHOLE]

    def parameter(self, recipe: Recipe, parameter: str) -> list[list[float]]:
        """A recipe's weights or densities: [sources][groups]."""
        return [
            [value_at(getattr(recipe.of(source), parameter), group, 1.0) for group in self.groups()]
            for source in recipe.source_names
        ]

    def ceiling(self, parameter: str) -> float:
        """The upper bound of a parameter in the search; 1 if it is not searched."""
        bounds = self.search.get(parameter)
        return float(bounds["high"]) if bounds else 1.0

    @property
    def routed(self) -> bool:
        """Whether the data-flow space was searched, which has no weights."""
        return self.recipe.search is not None and self.recipe.search.route is not None

    def gene_means(self) -> list[list[float]]:
        """The mean value of each gene in each generation, in the gene's own range: [genes][generations].

        For weights, densities and options; a route's genes are shown by the route figures.
        """
        generations = by_generation(self.trials)
        means = []
        for index, gene in enumerate(self.genes):
            bounds = (self.search["options"] if gene.of_option else self.search)[gene.parameter]
            low, high = float(bounds["low"]), float(bounds["high"])
            points = [[trial.genome[index] for trial in trials] for trials in generations]
            means.append([low + (high - low) * sum(own) / len(own) for own in points])
        return means


def read_study(folder: Path) -> StudyData:
    """Read a study's folder. Raises StudyError if it is not a study, or if its recipe or its log of trials is damaged.

    Other damaged files are left out; `notes` says which.
    """
    notes: list[str] = []
    header = sound_header(folder, notes.append)
    recipe = recipe_of(folder, header)
    images = folder / "images"
    names = header.get("genes", [])
    if (folder / study_log.RESULT).exists():  # in a study that is running a last line may be unfinished
        for name in (study_log.ANSWERS, study_log.HELD_OUT_ANSWERS):
            if files.is_unfinished(folder / name):
                notes.append(f"{folder / name}: its last line is unfinished; left out")
    genes = _or_none(lambda: tuple(_gene(name, recipe, folder) for name in names), notes.append) or ()
    return StudyData(
        folder=folder,
        header=header,
        recipe=recipe,
        winner=_or_none(lambda: _winner(folder), notes.append),
        genes=genes,
        trials=tuple(_trials(folder, len(genes) or None)),
        result=_or_none(lambda: read_result(folder), notes.append),
        events=tuple(files.read_rows(folder / study_log.EVENTS, notes.append)),
        answers=tuple(_progress(folder, notes.append)),
        held_out_answers=tuple(read_held_out(folder, notes.append)),
        atlas=_or_none(lambda: read_atlas(folder), notes.append),
        images={unquote(path.stem): path for path in sorted(images.glob("*.png"))} if images.is_dir() else {},
        notes=tuple(notes),
    )


def _or_none(read: Callable[[], T | None], tell: Tell) -> T | None:
    """What `read` returns; None, with a sentence, if the file is damaged."""
    try:
        return read()
    except UserError as error:
        tell(f"{error}; left out")
        return None


def _winner(folder: Path) -> Recipe | None:
    best = folder / study_log.BEST
    return read_recipe(best) if best.exists() else None


def _trials(folder: Path, genes: int | None) -> list[Trial]:
    trials = study_log.read_trials(folder)
    for trial in trials:
        if genes is not None and len(trial.genome) != genes:
            raise StudyError(
                f"{folder / study_log.TRIALS}:{trial.trial + 1}: {len(trial.genome)} genes, but {study_log.HEADER}"
                f" names {genes}; restore the file"
            )
    return trials


def _progress(folder: Path, tell: Tell) -> list[ProgressAnswer]:
    found, path, wrong = [], folder / study_log.ANSWERS, []
    for number, row in files.numbered_rows(path, tell):
        try:
            found.append(ProgressAnswer.model_validate(row))
        except ValidationError:
            wrong.append(number)
    if wrong:
        tell(files.left_out(path, wrong, "not an answer"))
    return found


def by_generation(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials grouped by generation, in order."""
    found: dict[int, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.generation, []).append(trial)
    return list(found.values())


def best_so_far(trials: Sequence[Trial]) -> list[tuple[int, float]]:
    """(trial, highest score so far), one entry per trial with a score at full fidelity."""
    found: list[tuple[int, float]] = []
    for trial in trials:
        if trial.score is not None and trial.promoted:
            found.append((trial.trial, max(trial.score, found[-1][1]) if found else trial.score))
    return found


def generation_means(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """(middle of the generation, mean of its scores); generations without a score are left out."""
    found = []
    for generation in by_generation(trials):
        scores = [trial.score for trial in generation if trial.score is not None]
        if scores:
            middle = (generation[0].trial + generation[-1].trial) / 2
            found.append((middle, sum(scores) / len(scores)))
    return found


def seconds_by_phase(trials: Sequence[Trial]) -> dict[str, float]:
    """Total seconds of all trials, by phase."""
    total: dict[str, float] = {}
    for trial in trials:
        for phase, seconds in trial.seconds.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total


def _gene(name: str, recipe: Recipe, folder: Path) -> GeneName:
    """Split a gene's name into its parts; the source's own name may contain dots."""
    for option in recipe.search.options if recipe.search is not None else ():
        if name == f"options.{option}.{WHOLE}":
            return GeneName("options", option, WHOLE, of_option=True)
    for source in recipe.source_names:
        for parameter in ("weight", "density", "use", "scale", "theta"):
            start = f"{source}.{parameter}."
            if name.startswith(start):
                return GeneName(source, parameter, name.removeprefix(start))
    raise StudyError(f"{folder / study_log.HEADER}: the gene {name!r} belongs to no source of the recipe")
