"""Tables and sentences of evidence, as Markdown, from rows. Knows rows and statistics; no studies."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from evovlm.report.words import row_name
from evovlm.study.held_out_log import EVOLVED, Kind
from evovlm.study.result import Difference
from evovlm.system.errors import UserError
from evovlm.system.statistics import Interval, nested_mean
from evovlm_benchmarks.evidence.rows import Row

FULL = 100.0
SOURCES_BY = 20.0  # points of content by which the evolved merge shall be above every source
MOST_LOST = 1 / 6  # share of runs in which a control may be as good
SHUFFLED, PRIOR = "shuffled_images", "prior"  # rows that show what a score is made of, and are no rivals
Key = tuple[Kind, str]  # a model: its section of the table, and its name


def runs_of(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """The runs, in the order of the rows."""
    return list(dict.fromkeys(row.run for row in rows))


def models_of(rows: Sequence[Row]) -> list[Key]:
    """The models that every run has, in the order of the tables."""
    runs = runs_of(rows)
    found = dict.fromkeys((row.kind, row.name) for row in rows)
    return [key for key in found if sum((row.kind, row.name) == key for row in rows) == len(runs)]


def refuse_mixed(rows: Sequence[Row]) -> None:
    """Raise UserError if rows cannot stand in one table: other counts, other searches, or a run without a source."""
    first, runs = rows[0], runs_of(rows)
    counts = {(row.trials, row.search_items, row.items) for row in rows}
    if len(counts) > 1:
        told = "; ".join(f"{trials} candidates, {asked} and {items} items" for trials, asked, items in sorted(counts))
        raise UserError(f"--out: holds runs of {first.recipe} with other counts ({told}); choose another file")
    if len({tuple(search for training, search in runs if training == one) for one, _ in runs}) > 1:
        raise UserError(f"--out: the zoos of {first.recipe} have other search seeds there; run those that are missing")
    for run in runs:
        if not any(row.run == run and row.kind == "sources" for row in rows):
            raise UserError(f"training {run[0]}, search {run[1]}: no source has a score, so nothing can be compared")


def of_model(rows: Sequence[Row], key: Key) -> list[Row]:
    """A model's rows, one per run."""
    return [row for row in rows if (row.kind, row.name) == key]


def run_table(rows: Sequence[Row]) -> str:
    """What each model's answers say, by run: per cent, and the evolved merge minus it, corrected for its table."""
    runs = runs_of(rows)
    heads = [f"training {training}, search {search}" for training, search in runs]
    lines = [_line(["model", "best of", *heads]), _line(["---", *["---:"] * (1 + len(runs))])]
    for key in models_of(rows):
        own = {row.run: row for row in of_model(rows, key)}
        tries = "; ".join(dict.fromkeys("" if row.tries is None else str(row.tries) for row in own.values()))
        cells = [_cell(own[run]) for run in runs]
        name = row_name(*key)
        lines.append(_line([f"**{name}**" if key[0] == EVOLVED else name, tries, *cells]))
    return "\n".join(lines)


def _cell(row: Row) -> str:
    share = f"{FULL * row.content:.1f}"
    if row.kind == EVOLVED:
        low, high = row.content_ci95
        return f"**{share}** [{FULL * low:.1f}, {FULL * high:.1f}]"
    return f"{share}; {_difference(row.content_versus_evolved)}"


def _difference(found: Difference) -> str:
    low, high = found.ci95
    return f"{found.mean:+.1f} [{low:+.1f}, {high:+.1f}]{'' if found.certain else ' n.s.'}"


def method_table(rows: Sequence[Row]) -> str:
    """Each model over all runs: its mean share and score, the evolved merge minus it over trainings, and how often."""
    lines = [
        "| model | content | ROUGE-L or right | exact | evolved minus this, content | evolved is better in |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for key in models_of(rows):
        own = of_model(rows, key)
        means = [FULL * fmean(row.content for row in own), fmean(row.score for row in own)]
        cells = [*(f"{mean:.1f}" for mean in means), f"{FULL * fmean(row.exact for row in own):.1f} %"]
        if key[0] != EVOLVED:
            found = over_trainings(rows, key)
            better = sum(row.content_versus_evolved.certain and row.content_versus_evolved.mean > 0 for row in own)
            cells += [f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]", f"{better} of {len(own)} runs"]
        name = row_name(*key)
        lines.append(_line([f"**{name}**" if key[0] == EVOLVED else name, *cells, *[""] * (5 - len(cells))]))
    return "\n".join(lines)


def over_trainings(rows: Sequence[Row], key: Key) -> Interval:
    """Evolved minus a model, in points of content, over training seeds, their searches and their items."""
    best = {row.run: row.flags for row in of_model(rows, (EVOLVED, EVOLVED))}
    by_training: dict[str, list[list[float]]] = {}
    for row in of_model(rows, key):
        differences = [FULL * (one - other) for one, other in zip(best[row.run], row.flags, strict=True)]
        by_training.setdefault(row.training, []).append(differences)  # in the order of the search seeds
    return nested_mean(list(by_training.values()), seed=0)


def claims(rows: Sequence[Row]) -> list[str]:
    """The goals, each with whether it holds and the figures: above the sources, above the controls, sight."""
    runs, models = runs_of(rows), models_of(rows)
    told = [
        f"{row_name(*key)} is in no table and no claim: it has no score in every run."
        for key in dict.fromkeys((row.kind, row.name) for row in rows)
        if key not in models
    ]
    gains = {
        run: min(row.content_versus_evolved.mean for row in rows if row.run == run and row.kind == "sources")
        for run in runs
    }
    least = min(gains.values())
    holds = "holds" if least >= SOURCES_BY else "does not hold"
    told.append(
        f"Above every source by {SOURCES_BY:g} points of content in every run: **{holds}**"
        f" (least {least:+.1f}, mean {fmean(gains.values()):+.1f} over {len(runs)} runs)."
    )
    for key in models:
        if key[0] != "controls" or key[1] in (SHUFFLED, PRIOR):
            continue
        versus = [row.content_versus_evolved for row in of_model(rows, key)]
        better = sum(one.certain and one.mean > 0 for one in versus)
        holds = "holds" if len(runs) - better <= MOST_LOST * len(runs) else "does not hold"
        told.append(
            f"Above {row_name(*key)}, p below 5 % after the correction: **{holds}** ({better} of {len(runs)} runs,"
            f" {min(one.mean for one in versus):+.1f} to {max(one.mean for one in versus):+.1f} points)."
        )
    if {("controls", SHUFFLED), ("controls", PRIOR)} <= set(models):
        shuffled, prior = ([FULL * row.content for row in of_model(rows, ("controls", n))] for n in (SHUFFLED, PRIOR))
        told.append(
            f"With images shuffled the evolved merge says the right thing in {fmean(shuffled):.1f} % of its answers,"
            f" the guesser that sees the question alone in {fmean(prior):.1f} %."
        )
    return told


def made_with(rows: Sequence[Row]) -> str:
    """A sentence on what made the rows: data, counts, commits, libraries and machines."""
    first = rows[0]
    commits = ", ".join(dict.fromkeys(row.commit for row in rows))
    machines = "; ".join(dict.fromkeys(row.hardware for row in rows))
    torch = ", ".join(dict.fromkeys(row.versions.get("torch", "unknown") for row in rows))
    zoos = ", ".join(f"{name} `{zoo}`" for name, zoo in dict.fromkeys((row.training, row.zoo) for row in rows))
    return (
        f"`{first.recipe}`: {first.trials} candidates with {first.search_items} items each, tested on {first.items}"
        f" items of `{first.test}`. Zoos by training seed: {zoos}. Commit {commits}, torch {torch}; {machines}."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
