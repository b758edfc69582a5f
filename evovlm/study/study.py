"""The study: an append-only log of candidates, its best recipe, and the settings that a resumed search must not change.

Knows recipes, evaluations and the study's files; no searchers (`loop` runs them), models or tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import moved, write_recipe
from evovlm.search import Genome
from evovlm.search.space.parameters import Gene, express
from evovlm.study import log as study_log
from evovlm.study._scored import Scored
from evovlm.study.header import ContentOf, Gain, Tell, refuse_changes, sound_header, unheard
from evovlm.study.log import Trial, best_trial
from evovlm.system import files
from evovlm.system.errors import NoScoreError, StudyError, plain_failure
from evovlm.system.faults import Unforeseen
from evovlm.system.statistics import standard_error

ANSWERS_KEPT = 24
# Failures that no candidate is known to cause: after so many in a row, the program or the machine is at fault.
UNFORESEEN_IN_A_ROW = 5
# A search in which none of the first candidates has a score has nothing to learn from.
HOPELESS = 20
OTHER_SEARCH = (
    "change what is searched, such as the range under `search.weight`, or the data, and start a new study in another"
    " folder"
)
ROUNDING = 1e-6  # tolerance per gene (range 0 to 1), for rounding on another machine

Express = Callable[[Recipe, Sequence[Gene], Sequence[float]], Recipe]


@dataclass
class Study:
    """A search that can be killed at any time and resumed where it stopped."""

    folder: Path
    recipe: Recipe
    genes: tuple[Gene, ...]
    trials: list[Trial]
    item_ids: tuple[str, ...]
    express: Express = express  # maps a genome to its recipe
    root: Path = Path()  # the recipe's model folders are relative to it
    pictures: tuple[int, ...] = ()  # the number of each item's picture; empty: each item has its own
    _leader: Trial | None = None  # the best trial so far
    _synced: bool = True  # whether each trial is synced to disk by itself
    _tell: Tell = unheard
    _other_rounding: bool = False  # whether the log's genomes are from a machine that rounds otherwise
    _unforeseen: int = 0  # failures in a row, in this process, that were not known to be the candidates'

    @classmethod
    def open(
        cls,
        folder: Path,
        recipe: Recipe,
        genes: tuple[Gene, ...],
        header: dict[str, Any],
        express: Express = express,
        root: Path | None = None,
        tell: Tell = unheard,
        content_of: ContentOf | None = None,
        pictures: tuple[int, ...] = (),
    ) -> Study:
        """Start a study in a new folder, or resume the one in an existing folder.

        `header` has the entries named in `header.BINDING`, with the item ids in `items`; entries that the study's own
        header lacks are added to it, and `tell` is called with a sentence. Its `root`, from which the recipe's relative
        paths start as seen from the study, is kept as the last command has it. `content_of`: see `refuse_changes`.
        `pictures`: the number of each item's picture, if some share one. Raises StudyError if the folder contains
        something else, or a study of other settings or of a newer format.
        """
        if (folder / study_log.HEADER).exists():
            known = sound_header(folder, tell)
            gain = refuse_changes(folder, header, content_of=content_of)
            if "root" in header and known.get("root") != header["root"]:  # study or recipe was moved
                gain = replace(gain, entries={**gain.entries, "root": header["root"]})
            if not (folder / study_log.TRIALS).exists() and (folder / study_log.BEST).exists():
                tell(f"{folder / study_log.TRIALS}: missing; the search starts again")
            for name in (study_log.TRIALS, study_log.ASKS, study_log.EVENTS, study_log.ANSWERS):
                files.mend_tail(folder / name)
            trials = study_log.read_trials(folder)
            if genes:  # an `express` of its own may do without
                study_log.refuse_other_lengths(folder, trials, len(genes))
            _log_resumed(folder, known, header, len(trials))
            _bind(folder, gain, tell)
        else:
            study_log.refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            trials = []
            files.write_json(folder / study_log.HEADER, header)
            study_log.log_event(folder, "started")
        ids = tuple(header["items"]["ids"])
        return cls(folder, recipe, genes, trials, ids, express, root or Path(), pictures, _tell=tell)

    def bind(self, key: str, value: Any, tell: Tell = unheard) -> None:
        """Compare one more entry with the study's header, or add it if the header lacks it.

        For what takes long to compute, such as `weights`: it need not be known before the models are loaded. A study
        that was not begun gets the entry without a sentence. Raises StudyError, with both values, if it differs.
        """
        _bind(self.folder, refuse_changes(self.folder, {key: value}, [key]), tell if self.trials else unheard)

    def say(self, text: str) -> None:
        """Show a sentence where the search is shown."""
        self._tell(text)

    def candidate(self, genome: Sequence[float]) -> Recipe:
        """The recipe of a genome."""
        return self.express(self.recipe, self.genes, genome)

    def _spread(self, evaluation: Scored, seen: Sequence[int] | None) -> float:
        """The standard error of a mean score; questions about one picture are not independent of each other."""
        own = [self.pictures[place] for place in seen] if seen is not None and self.pictures else self.pictures
        return standard_error(evaluation.scores, own)

    def best(self) -> Trial:
        """The best trial so far. Raises NoScoreError if no candidate has a score."""
        best = best_trial(self.trials)
        if best is None:
            failed = plain_failure(self.trials[0].error or "") if self.trials else "no trial was run"
            raise NoScoreError(f"{self.folder}: no candidate has a score ({failed}); {OTHER_SEARCH}")
        return best

    def finalists(self, count: int) -> Iterator[Trial]:
        """Up to `count` best trials with different genomes, best first; in a raced study the last centers come first.

        Trials scored only at a lower fidelity are excluded.
        """
        seen: set[tuple[float, ...]] = set()
        scored = [trial for trial in self.trials if trial.score is not None and trial.promoted]
        ranked = sorted(scored, key=lambda trial: (-_score(trial), trial.trial))
        if any(trial.items is not None for trial in scored):
            centers = [trial for trial in reversed(scored) if not trial.told]
            ranked = [*centers[:count], *ranked]
        for trial in ranked:
            if trial.genome not in seen and len(seen) < count:
                seen.add(trial.genome)
                yield trial

    def add(
        self,
        generation: int,
        genome: Genome,
        outcome: Scored | str,
        *,
        ask: int | None = None,
        told: bool = True,
        worker: str | None = None,
        seen: Sequence[int] | None = None,
        cheap: float | None = None,
        promoted: bool = True,
    ) -> Trial:
        """Log a candidate's outcome as the next trial: its evaluation, or an error text.

        A score that is not finite is logged as an error. Raises StudyError after UNFORESEEN_IN_A_ROW failures in a row
        that are not known to be the candidates' own.

        `ask`, `told`, `worker`, `cheap`, `promoted`: see `Trial`. `seen`: indices of the study's items it was asked.
        """
        recipe = self.candidate(genome)
        if not isinstance(outcome, str) and not math.isfinite(outcome.score):
            outcome = f"FloatingPointError: the score is {outcome.score}"
        evaluation, error = (None, outcome) if isinstance(outcome, str) else (outcome, None)
        trial = Trial(
            trial=len(self.trials),
            generation=generation,
            genome=genome,
            digest=recipe.digest(),
            score=evaluation.score if evaluation else None,
            spread=self._spread(evaluation, seen) if evaluation else None,
            exact=evaluation.exact_share if evaluation else None,
            seconds=evaluation.seconds if evaluation else {},
            error=None if error is None else str(error),
            values=evaluation.values if evaluation else (),
            ask=ask,
            told=told,
            worker=worker,
            items=None if seen is None else len(seen),
            cheap=cheap,
            promoted=promoted,
        )
        self._record(trial, recipe, evaluation, seen)
        self._unforeseen = self._unforeseen + 1 if isinstance(outcome, Unforeseen) else 0
        if self._unforeseen >= UNFORESEEN_IN_A_ROW:
            raise StudyError(
                f"{self.folder}: {self._unforeseen} candidates in a row failed ({error}), which says more about the"
                " program or the machine than about them; mend that and run the same command to go on"
            )
        return trial

    def refuse_hopeless(self, done: int, population: int) -> None:
        """Raises NoScoreError if none of the first max(HOPELESS, population) trials has a score and all are `done`."""
        count = max(HOPELESS, population)
        first = self.trials[:count]
        if min(done, len(first)) == count and all(trial.score is None for trial in first):
            raise NoScoreError(
                f"{self.folder}: none of the first {count} candidates has a score (the last one:"
                f" {plain_failure(first[-1].error or '')}); {OTHER_SEARCH}"
            )

    def _record(self, trial: Trial, recipe: Recipe, evaluation: Scored | None, seen: Sequence[int] | None) -> None:
        """Write the trial's line last: after a crash before it, the trial is run again and is never half logged."""
        # Found once, then kept: with thousands of trials, finding the best each time would dominate the loop.
        if self._leader is None:
            self._leader = best_trial(self.trials)
        able = trial.score is not None and trial.promoted
        leads = able and (self._leader is None or _score(trial) > _score(self._leader))
        if leads and evaluation is not None:
            asked = self.item_ids if seen is None else [self.item_ids[place] for place in seen]
            kept = zip(asked, evaluation.answers, evaluation.scores, strict=True)
            rows = [
                {"trial": trial.trial, "id": item, "answer": answer, "score": score}
                for item, answer, score in list(kept)[:ANSWERS_KEPT]
            ]
            files.append_rows(self.folder / study_log.ANSWERS, rows)
            write_recipe(moved(recipe, self.root, self.folder), self.folder / study_log.BEST)
        files.append_rows(self.folder / study_log.TRIALS, [trial.line()], synced=self._synced)
        self.trials.append(trial)
        if leads:
            self._leader = trial

    @contextmanager
    def together(self) -> Iterator[None]:
        """Sync the trials logged in the block to disk once, at its end; a killed process loses none of them."""
        self._synced = False
        try:
            yield
        finally:
            self._synced = True
            files.sync(self.folder / study_log.TRIALS)

    def as_logged(self, then: Genome, genome: Genome, exact: int, where: str, trial: Trial | None) -> Genome:
        """The genome of a candidate that the log has as `then`, where the searcher now produces `genome`.

        `genome` itself if they are equal up to rounding. `exact`: the number of genes, from the first, that every
        processor computes alike (`search.protocol.Searcher`); if only later ones differ, the log's genome is returned,
        so that the search goes on from its log, and one sentence says so. `where`: its place in the log. `trial`: the
        candidate's, unless it was never scored. Raises StudyError if the log is of another search, or was edited.
        """
        if same_genome(then, genome):
            return genome
        if not same_genome(then[:exact], genome[:exact]) or len(then) != len(genome) or self._edited(trial):
            raise _other_genome(where)
        if not self._other_rounding:
            self._other_rounding = True
            study_log.log_event(self.folder, "other rounding", where=where.rpartition(": ")[2])
            self._tell(
                f"{where}: this candidate and later ones are not what this machine's linear algebra gives; they were"
                " logged on another machine, and the search goes on from the log"
            )
        return then

    def place_of(self, trial: Trial) -> str:
        """A trial's place in the log, as messages name it."""
        return f"{self.folder / study_log.TRIALS}: trial {trial.trial}"

    def _edited(self, trial: Trial | None) -> bool:
        """Whether a trial's genome is not the one that was scored.

        Digests of early versions hold the path of a first stage's model; in a study that was moved they say nothing.
        """
        if trial is None:
            return False
        first = self.trials[0]
        if self.candidate(first.genome).digest() != first.digest:
            return False
        return self.candidate(trial.genome).digest() != trial.digest

    def refuse_other_genome(self, trial: Trial, genome: Genome) -> None:
        """Raises StudyError if the searcher produces another genome than the log has."""
        if not same_genome(trial.genome, genome):
            raise _other_genome(self.place_of(trial))


def _log_resumed(folder: Path, known: dict[str, Any], header: dict[str, Any], trials: int) -> None:
    versions = known.get("versions") or {}
    changed = {key: value for key, value in header["versions"].items() if versions.get(key) != value}
    device = header.get("device")
    more = {} if known.get("device") in (None, device) else {"device": device}
    study_log.log_event(folder, "resumed", trials=trials, changed_versions=changed, **more)


def _bind(folder: Path, gain: Gain, tell: Tell) -> None:
    """Add entries to the study's header. From then on another value is refused."""
    if not gain.entries:
        return
    files.write_json(folder / study_log.HEADER, study_log.read_header(folder) | dict(gain.entries))
    study_log.log_event(folder, "bound", keys=sorted(gain.entries))
    for sentence in gain.recounted:
        tell(sentence)
    if gain.lacked:
        named = ", ".join(f"`{key}`" for key in sorted(gain.lacked))
        tell(f"{folder / study_log.HEADER} lacked {named}; from now on the study is bound to the present values")


def _other_genome(where: str) -> StudyError:
    return StudyError(
        f"{where} has another genome than this search produces (another version of a library, or an edited log?);"
        " start a new study in another folder"
    )


def same_genome(logged: Sequence[float], made: Sequence[float]) -> bool:
    """Whether a searcher reproduces a genome of the log, within ROUNDING per gene.

    Not bit for bit, because linear algebra rounds differently on another processor. Where it also chooses the axes,
    genes differ by more: see `Study.as_logged`.
    """
    return len(logged) == len(made) and all(abs(a - b) <= ROUNDING for a, b in zip(logged, made, strict=True))


def _score(trial: Trial) -> float:
    assert trial.score is not None
    return trial.score
