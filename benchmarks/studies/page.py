"""What the studies found, as a page with tables, a sentence each, and pictures.

Knows the arms' results on disk and Markdown; runs nothing. What is said follows from the figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.studies.arms import DONE
from benchmarks.studies.curves import Band, draw_bands, draw_points
from benchmarks.studies.plans import STUDIES, StudyPlan

Results = Mapping[str, Sequence[Mapping[str, Any]]]  # by arm, one a seed
HEAD = """# Studies

What evolution finds on the zoo, and what not. Written by one command, which runs or resumes every search:

```sh
python -m benchmarks study all --trials {trials} --items {items} --judged {judged} --jobs 16 --docs docs
```

"""
TAIL = """
Where the best score on the search items is near 100, the zoo leaves the search nothing to find: such arms differ by
their luck with a few search items, and no ranking of methods follows.

These are models of 1.7 million parameters on generated word problems. An effect seen here is a reason to look for it
in large models, and one not seen here may still be there. Scores are 0 to 100 on held-out problems, the same for all
arms; intervals are 95 %, by bootstrap over seeds.
"""


def read_results(out: Path, study: str) -> Results:
    """All arms of a study that are done."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted((out / study).glob(f"*/{DONE}")):
        row = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(row["arm"], []).append(row)
    return found


def summary(plan: StudyPlan, out: Path) -> Iterable[str]:
    """Question, one line an arm, and a sentence."""
    results = read_results(out, plan.name)
    yield f"{plan.name}: {plan.question}"
    for arm, rows in results.items():
        mean, low, high = interval([row["tests"]["winner"] for row in rows])
        yield f"  {arm:<14} {mean:6.2f}  [{low:.2f}, {high:.2f}]  {len(rows)} seeds"
    yield "  " + SENTENCES[plan.name](results)


def interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over seeds."""
    rng = np.random.default_rng(0)
    means = rng.choice(np.asarray(values, dtype=float), (draws, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return fmean(values), float(low), float(high)


def write_page(out: Path, docs: Path) -> Path:
    """Write `studies.md` and its pictures into `docs`, of all studies that have results."""
    parts = []
    budget: dict[str, Any] = {}
    for plan in STUDIES.values():
        results = read_results(out, plan.name)
        if results:
            parts.append(_section(plan, results, docs))
            first = next(iter(results.values()))[0]
            budget = {"trials": len(first["curve"]), "items": first["items"], "judged": first["judged"]}
    page = docs / "studies.md"
    page.write_text(HEAD.format(**budget) + "\n".join(parts) + TAIL, encoding="utf-8")
    return page


def _section(plan: StudyPlan, results: Results, docs: Path) -> str:
    pictures = docs / "studies"
    pictures.mkdir(parents=True, exist_ok=True)
    bands = [Band(arm, [best_so_far(row["curve"]) for row in rows]) for arm, rows in results.items()]
    draw_bands(bands, pictures / f"{plan.name}.svg", title=plan.question)
    rows = next(iter(results.values()))
    evaluations = len(rows[0]["curve"])
    lines = [
        f"## {plan.question}",
        "",
        SENTENCES[plan.name](results),
        "",
        f"![Best score so far over evaluations, mean and range over seeds](studies/{plan.name}.svg)",
        "",
        "| arm | test score | 95 % | best on the search items | seeds |",
        "|---|---|---|---|---|",
    ]
    for arm, own in results.items():
        mean, low, high = interval([row["tests"]["winner"] for row in own])
        found = fmean(best_so_far(row["curve"])[-1] for row in own)
        lines.append(f"| {arm} | {mean:.2f} | {low:.2f} to {high:.2f} | {found:.2f} | {len(own)} |")
    lines += ["", f"{evaluations} evaluations a search; {rows[0]['judged']} test items.", ""]
    if plan.name == "drop":
        draw_points(densities(results), pictures / "densities.svg", title="Densities of the winners, one dot a gene")
        lines += ["![Densities of the winners](studies/densities.svg)", ""]
    return "\n".join(lines)


def best_so_far(curve: Sequence[float | None]) -> list[float]:
    """The best score up to each evaluation; a failed candidate scores nothing."""
    best, found = 0.0, []
    for score in curve:
        best = max(best, score or 0.0)
        found.append(best)
    return found


def densities(results: Results) -> dict[str, list[float]]:
    """The densities that evolution chose, of all sources and layer groups, by arm."""
    found = {}
    for arm, rows in results.items():
        values = [
            value
            for row in rows
            for name, own in row["parameters"].items()
            if any(gene.startswith(f"{name}.density.") for gene in row["genes"])
            for value in (own["density"].values() if isinstance(own["density"], dict) else [own["density"]])
        ]
        if values:
            found[arm] = values
    return found


def difference(results: Results, one: str, other: str, *, key: str = "winner", against: str = "winner") -> str:
    """`one` minus `other` on the test items, paired by seed, with its interval, in words."""
    theirs = {row["seed"]: row["tests"] for row in results[other]}
    pairs = [
        (row["tests"][key], theirs[row["seed"]][against])
        for row in results[one]
        if key in row["tests"] and row["seed"] in theirs and against in theirs[row["seed"]]
    ]
    mean, low, high = interval([mine - other_ for mine, other_ in pairs])
    told = "no difference that these seeds can show" if low <= 0 <= high else ("better" if low > 0 else "worse")
    return f"{mean:+.2f} points [{low:+.2f}, {high:+.2f}]: {told}"


def _about_routes(results: Results) -> str:
    arm = "with scales"
    mean = fmean(row["tests"]["winner"] for row in results[arm])
    length = fmean(len(row["route"]) for row in results[arm])
    names = [key for key in results[arm][0]["tests"] if key.startswith("source ")]
    sources = ", ".join(f"{key.removeprefix('source ')} {results[arm][0]['tests'][key]:.2f}" for key in names)
    bare = difference(results, arm, arm, key="winner", against="without scales")
    searched = difference(results, arm, "no scales") if "no scales" in results else "not run"
    return (
        f"The routes found, {length:.1f} layers long on average, score {mean:.2f} on the test items; the sources"
        f" as they are: {sources}. Against the same"
        f" routes with every scale set to 1: {bare}. Against routes searched without scales: {searched}."
    )


def _about_searchers(results: Results) -> str:
    ranked = sorted(results, key=lambda arm: -fmean(row["tests"]["winner"] for row in results[arm]))
    against = [f"{arm} {difference(results, arm, 'random')}" for arm in ranked if arm != "random"]
    best = f"Best on average: {ranked[0]}. "
    return best + "Against random search, from the same start and in as many evaluations: " + "; ".join(against) + "."


def _about_drop(results: Results) -> str:
    against = [f"{arm} {difference(results, arm, 'neither')}" for arm in results if arm != "neither"]
    chosen = {arm: values for arm, values in densities(results).items() if arm != "neither"}
    dense = [f"{arm} {fmean(values):.2f} (above 0.95: {_share(values):.0%})" for arm, values in chosen.items()]
    norm = difference(results, "drop by norm", "DARE alone")
    return (
        f"Against task arithmetic without any drop: {'; '.join(against)}. Drop by norm against random drop: {norm}."
        f" Mean density that evolution chose: {'; '.join(dense)}."
    )


def _about_spaces(results: Results) -> str:
    return (
        f"Both stages against PS alone: {difference(results, 'PS + DFS', 'PS')}. Against DFS alone:"
        f" {difference(results, 'PS + DFS', 'DFS')}. DFS against PS: {difference(results, 'DFS', 'PS')}."
    )


def _share(values: Sequence[float]) -> float:
    return sum(value > 0.95 for value in values) / len(values)


SENTENCES = {"routes": _about_routes, "searchers": _about_searchers, "drop": _about_drop, "spaces": _about_spaces}
