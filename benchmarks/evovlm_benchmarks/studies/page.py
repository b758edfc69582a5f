"""The studies' results as a page: for each study a table, a generated summary and figures.

Knows the arms' results on disk and Markdown; runs nothing. All statements are derived from the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats

from evovlm.system.errors import UserError
from evovlm_benchmarks.studies.arms import DONE, read_arm
from evovlm_benchmarks.studies.curves import Band, draw_bands, draw_points
from evovlm_benchmarks.studies.plans import STUDIES, StudyPlan

Results = Mapping[str, Sequence[Mapping[str, Any]]]  # by arm, one per seed
HEAD = """# Studies

What evolution finds on the zoo, and what it does not. One command runs (or resumes) every search and writes this page:

```sh
evovlm bench study all --trials {trials} --items {items} --judged {judged} --jobs 16 --docs docs
```

{trials} evaluations a search, each of {items} Japanese word problems (`zoo-maths`, drawn anew for each seed). The ten
best candidates are scored again on fresh items, and the best of these is tested on {judged} held-out problems, the
same for every arm. Scores are 0 to 100: the number right and the reasoning Japanese. Intervals are 95 %, by
Student's t over seeds; differences are paired by seed.

{unequal}Zoo `{zoo}` (the manifest's SHA-256), commit {commit}, torch {torch}, transformers {transformers}. {hardware};
one thread a search, float32; {minutes:.1f} CPU minutes a search on average.

"""
WHOLE, BY_CHANCE = (
    0.95,
    0.05 / 0.9,
)  # a density that drops almost nothing; its probability if uniform in 0.1 to 1
FULL = 97.0  # from this best score on the search items, an arm has no room to improve
UNEQUAL = """The run was cut short: some arms have fewer seeds than others, as the tables say, and what rests on two
seeds has a very wide interval. The command goes on with them.

"""
TAIL = """
## Limits of these results

These are models of 1.7 million parameters on generated word problems of one or two steps. An effect seen here is a
reason to look for it in large models; an effect not seen here may still exist there. Where the best score on the
search items nears 100, there is nothing left to find: such arms differ by chance on a few items, and the earlier
columns say more. Retraining the zoo gives another page, because results lie in a folder named by the zoo's digest.
"""


def read_results(out: Path, study: str) -> Results:
    """All finished arms of a study."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted((out / study).glob(f"*/{DONE}")):
        row = read_arm(path)
        found.setdefault(row["arm"], []).append(row)
    return found


def summary(plan: StudyPlan, out: Path) -> Iterable[str]:
    """Yield the question, one line per arm, and the generated summary."""
    results = read_results(out, plan.name)
    yield f"{plan.name}: {plan.question}"
    for arm, rows in results.items():
        mean, low, high = interval([row["tests"]["winner"] for row in rows])
        yield f"  {arm:<14} {mean:6.2f}  [{low:.2f}, {high:.2f}]  {len(rows)} seeds"
    yield "  " + SENTENCES[plan.name](results)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t over seeds; for a single seed, the interval is just its value."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def write_page(out: Path, docs: Path) -> Path:
    """Write `studies.md` and its figures into `docs`, for all studies with results.

    Raises UserError if there are none.
    """
    found = {plan: results for plan in STUDIES.values() if (results := read_results(out, plan.name))}
    if not found:
        raise UserError(f"{out}: no finished search; run `evovlm bench study all`")
    rows = [row for results in found.values() for own in results.values() for row in own]
    head = HEAD.format(
        trials=len(rows[0]["curve"]),
        items=rows[0]["items"],
        judged=rows[0]["judged"],
        unequal=UNEQUAL if len({len(own) for results in found.values() for own in results.values()}) > 1 else "",
        zoo=rows[0]["zoo"],
        minutes=fmean(row["cpu_seconds"] for row in rows) / 60,
        **{name: " and ".join(sorted({row[name] for row in rows})) for name in ("hardware", "commit")},
        **{name: " and ".join(sorted({row["versions"][name] for row in rows})) for name in ("torch", "transformers")},
    )
    page = docs / "studies.md"
    sections = [_section(plan, results, docs) for plan, results in found.items()]
    page.write_text(head + "\n".join(sections) + TAIL, encoding="utf-8")
    return page


def _section(plan: StudyPlan, results: Results, docs: Path) -> str:
    pictures = docs / "studies"
    pictures.mkdir(parents=True, exist_ok=True)
    bands = [Band(arm, [best_so_far(row["curve"]) for row in rows]) for arm, rows in results.items()]
    draw_bands(bands, pictures / f"{plan.name}.svg", title=plan.question)
    looks = thirds(len(next(iter(results.values()))[0]["curve"]))
    lines = [
        f"## {plan.question}",
        "",
        SENTENCES[plan.name](results) + near_the_top(results),
        "",
        f"![Best score so far over evaluations, mean and range over seeds](studies/{plan.name}.svg)",
        "",
        f"| arm | test score | 95 % | best on search items after {looks[0]} | {looks[1]} | {looks[2]} | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, own in by_score(results):
        mean, low, high = interval([row["tests"]["winner"] for row in own])
        best = " | ".join(f"{fmean(best_so_far(row['curve'])[look - 1] for row in own):.1f}" for look in looks)
        # Clipped, because scores are 0 to 100 but Student's t on two seeds can exceed that.
        span = f"{max(low, 0.0):.1f} to {min(high, 100.0):.1f}" if len(own) > 1 else "one seed"
        lines.append(f"| {arm} | {mean:.1f} | {span} | {best} | {len(own)} |")
    lines.append("")
    if plan.name == "drop":
        draw_points(densities(results), pictures / "densities.svg", title="Densities of the winners, one dot a gene")
        lines += ["![Densities of the winners](studies/densities.svg)", ""]
    return "\n".join(lines)


def by_score(results: Results) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The arms, best mean test score first."""
    return sorted(results.items(), key=lambda pair: -fmean(row["tests"]["winner"] for row in pair[1]))


def near_the_top(results: Results) -> str:
    """A note on the arms that have reached the top score on the search items; empty if none has."""
    full = [arm for arm, rows in by_score(results) if fmean(best_so_far(row["curve"])[-1] for row in rows) >= FULL]
    if not full:
        return ""
    return (
        f" At the end {', '.join(full)} reach {FULL:g} or more of 100 on the search items. The zoo leaves them nothing"
        " to gain, so differences between them at the end are chance on a few items; their earlier scores say more."
    )


def thirds(evaluations: int) -> tuple[int, int, int]:
    """The numbers of evaluations that the tables report: one third, two thirds, all."""
    return max(1, evaluations // 3), max(1, evaluations * 2 // 3), evaluations


def best_so_far(curve: Sequence[float | None]) -> list[float]:
    """The best score up to each evaluation; a failed candidate counts as 0."""
    best, found = 0.0, []
    for score in curve:
        best = max(best, score or 0.0)
        found.append(best)
    return found


def densities(results: Results) -> dict[str, list[float]]:
    """The winners' densities over all sources and layer groups, by arm."""
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
    """`one` minus `other` on the test items, paired by seed, with its interval, as text."""
    theirs = {row["seed"]: row["tests"] for row in results.get(other, ())}
    pairs = [
        (row["tests"][key], theirs[row["seed"]][against])
        for row in results.get(one, ())
        if key in row["tests"] and row["seed"] in theirs and against in theirs[row["seed"]]
    ]
    return in_words([mine - other_ for mine, other_ in pairs])


def sooner(results: Results, one: str, other: str) -> str:
    """`one` minus `other` in the mean height of the curves over all evaluations, paired by seed, as text."""
    theirs = {row["seed"]: fmean(best_so_far(row["curve"])) for row in results.get(other, ())}
    return in_words(
        [
            fmean(best_so_far(row["curve"])) - theirs[row["seed"]]
            for row in results.get(one, ())
            if row["seed"] in theirs
        ]
    )


def in_words(differences: Sequence[float]) -> str:
    """A mean difference, its interval and the conclusion, as text; needs at least two seeds."""
    if len(differences) < 2:
        return "unknown (too few seeds)"
    mean, low, high = interval(differences)
    told = "no difference that these seeds can show" if low <= 0 <= high else ("better" if low > 0 else "worse")
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]: {told}"


def _about_routes(results: Results) -> str:
    arm = next(iter(results)) if "with scales" not in results else "with scales"
    mean, low, high = interval([row["tests"]["winner"] for row in results[arm]])
    length = fmean(len(row["route"]) for row in results[arm])
    names = [key for key in results[arm][0]["tests"] if key.startswith("source ")]
    sources = ", ".join(f"{key.removeprefix('source ')} {results[arm][0]['tests'][key]:.1f}" for key in names)
    told = [f"`{key.removeprefix('source ')}` {difference(results, arm, arm, against=key)}" for key in names]
    return (
        f"The routes found are {length:.1f} layers long on average and score {mean:.1f} [{low:.1f},"
        f" {min(high, 100.0):.1f}]; the unmerged sources score {sources}. Against"
        f" {'; against '.join(told)}. Against the same routes with every scale set to 1:"
        f" {difference(results, arm, arm, against='without scales')}. Against routes searched without"
        f" scales: {difference(results, arm, 'no scales')}. Scales computed by a network instead of one per layer:"
        f" {difference(results, 'network', arm)}."
    )


def _about_searchers(results: Results) -> str:
    ranked = [arm for arm, _ in by_score(results)]
    others = [arm for arm in ranked if arm != "random"]
    against = [f"{arm} {difference(results, arm, 'random')}" for arm in others]
    height = [f"{arm} {sooner(results, arm, 'random')}" for arm in others]
    second = f"Against the next, {ranked[1]}: {difference(results, *ranked[:2])}. " if len(ranked) > 1 else ""
    return (
        f"Best on average: {ranked[0]}. {second}Against random search, from the same start and in as many"
        f" evaluations: {'; '.join(against)}.\n\nOver the whole search (mean of the best-so-far curve, against random"
        f" search's): {'; '.join(height)}."
    )


def _about_drop(results: Results) -> str:
    arms = [arm for arm in results if arm != "neither"]
    against = [f"{arm} {difference(results, arm, 'neither')}" for arm in arms]
    height = [f"{arm} {sooner(results, arm, 'neither')}" for arm in arms]
    chosen = {arm: values for arm, values in densities(results).items() if arm != "neither"}
    dense = [f"{arm} {fmean(values):.2f} (above 0.95: {_share(values):.0%})" for arm, values in chosen.items()]
    return (
        f"Against task arithmetic without dropping: {'; '.join(against)}. Dropping by norm against dropping at random:"
        f" {difference(results, 'drop by norm', 'DARE alone')}.\n\nOver the whole search (mean of the best-so-far"
        f" curve, against that of no dropping): {'; '.join(height)}.\n\nMean density that evolution chose, from 0.1 to"
        f" 1: {'; '.join(dense)}. Random densities would average 0.55 (above 0.95: 6%). {whole_wins(chosen)}"
    )


def _about_spaces(results: Results) -> str:
    return (
        f"Both stages against PS alone: {difference(results, 'PS + DFS', 'PS')}. Against DFS alone:"
        f" {difference(results, 'PS + DFS', 'DFS')}. DFS against PS: {difference(results, 'DFS', 'PS')}."
    )


def whole_wins(chosen: Mapping[str, Sequence[float]]) -> str:
    """Text: which methods kept whole task vectors more often than by chance (exact binomial test, 95 %)."""
    if not chosen:
        return "Whether a density of 1.0 wins is unknown: there are no winners yet."
    often = [
        arm
        for arm, values in chosen.items()
        if stats.binomtest(_whole(values), len(values), BY_CHANCE, alternative="greater").pvalue < 0.05
    ]
    if often:
        return f"With {', '.join(often)}, 1.0 wins: vectors are left whole more often than by chance."
    return "1.0 does not win: no method leaves vectors whole more often than by chance."


def _whole(values: Sequence[float]) -> int:
    return sum(value > WHOLE for value in values)


def _share(values: Sequence[float]) -> float:
    return _whole(values) / len(values)


SENTENCES = {"routes": _about_routes, "searchers": _about_searchers, "drop": _about_drop, "spaces": _about_spaces}
