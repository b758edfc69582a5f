"""Which conclusions a study supports and which it does not, in plain sentences.

Knows the study's data; no HTML and no plots.
"""

from __future__ import annotations

from evovlm.recipe.search_settings import Search
from evovlm.report.data import StudyData
from evovlm.study.held_out_log import EVOLVED, Kind
from evovlm.study.log import best_trial
from evovlm.study.result import Cell, FailedRow, HeldOut, Result

CONTROL_NAMES = {
    "average": "plain average of the sources",
    "plugged_in": "unmerged language model plugged in",
    "sweep": "best single weight for all task vectors",
    "tsv": "TSV-M, best single weight",
    "single_vector": "best single task vector, scaled",
    "interpolation": "best interpolation between two sources",
    "shuffled_images": "evolved, images shuffled",
    "prior": "guesser that sees the question alone",
    "restyled": "best source, reworded by rules",
    "random_search": "random search, same number of trials",
    "whole_model": "search with one weight per source",
    "without_scales": "the same route without its scales",
}


def control_name(name: str) -> str:
    """A control of the held-out table, in words."""
    return CONTROL_NAMES.get(name, name.replace("_", " "))


def footnotes(held_out: HeldOut) -> list[str]:
    """Sentences that explain a held-out table's columns, as far as it has them."""
    told = []
    if held_out.evolved.content is not None:
        told.append("content: answers that say the right thing, whatever their style and language")
    others = [*held_out.scored_sources.values(), *held_out.scored_controls.values()]
    compared = [
        one.versus_evolved for one in others if one.versus_evolved and one.versus_evolved.p_corrected is not None
    ]
    if compared:
        told.append(
            "differences marked n.s. are not significant at 5 % after Holm's correction for"
            f" {len(compared)} comparisons"
        )
    return told


def failed_rows(held_out: HeldOut) -> list[tuple[str, FailedRow]]:
    """The rows that have no score, by name."""
    rows = [(f"source {name}", row) for name, row in held_out.sources.items()]
    rows += [(control_name(name), row) for name, row in held_out.controls.items()]
    return [(name, row) for name, row in rows if isinstance(row, FailedRow)]


def row_name(kind: Kind, name: str) -> str:
    """A row of the held-out table where sources are not called so: a source named as another row is."""
    if kind == "controls":
        return control_name(name)
    taken = {EVOLVED, *CONTROL_NAMES, *CONTROL_NAMES.values()}
    return f"source {name}" if kind == "sources" and name in taken else name


def tied_words(study: StudyData) -> str:
    """`tie` for a study that is tied."""
    first, chosen = study.scored[0], study.result and study.result.selection
    trial = None if study.result is None else chosen.trial if chosen else first.trial
    several = bool((study.recipe.search or Search()).objectives)
    return tie(study.tied, trial, first.score or 0.0, several=several)


def tie(count: int, trial: int | None, score: float, *, several: bool) -> str:
    """Words on a search in which all candidates had the same score; `trial`: its winner, None if it has not ended.

    `several`: whether it had further objectives, in which they may differ.
    """
    apart = "only the other objectives may tell them apart" if several else "nothing tells them apart"
    same = f"all {count} scored {score:.2f} on the search items, so {apart}"
    if trial is None:
        return f"No candidate is the best so far: {same}."
    return (
        f"The search found no best candidate: {same}. Trial {trial} stands for all of them; it is not better than the"
        " others. Ask more or other items, or search a wider range."
    )


def shows(study: StudyData) -> list[str]:
    """Sentences on the conclusions that the study supports."""
    if study.result is None:
        best = best_trial(study.trials)
        if best is None:
            return ["Nothing yet: no candidate has a score."]
        if study.tied:
            return [tied_words(study)]
        return [
            f"So far the best of {len(study.trials)} candidates, trial {best.trial}, scored {best.score:.2f} on the"
            " search items. There is no held-out result yet, so this shows only that the search is running."
        ]
    held_out = study.result.held_out
    evolved = held_out.evolved
    low, high = evolved.ci95
    if study.tied:
        return _tied(study, study.result)
    sentences = [
        f"On {evolved.items or 'the'} held-out items, used neither in the search nor to pick the winner, the evolved"
        f" merge scored {evolved.score:.2f} (95 % interval {low:.2f} to {high:.2f}), with {evolved.exact:.1%} of the"
        " answers exact."
    ]
    if evolved.content is not None:
        of_sources = [row.content for row in held_out.scored_sources.values() if row.content is not None]
        beside = f", those of a source at most in {max(of_sources):.1%}" if of_sources else ""
        sentences.append(
            f"Whatever their style and language, its answers say the right thing in {evolved.content:.1%}{beside}."
        )
    sources = held_out.scored_sources
    if sources:
        name = max(sources, key=lambda key: sources[key].score)
        sentences.append(_against(f"the best source, {name}", sources[name]))
    rivals = {key: cell for key, cell in held_out.scored_controls.items() if key != "shuffled_images"}
    if rivals:
        name = max(rivals, key=lambda key: rivals[key].score)
        sentences.append(_against(f"the best control ({control_name(name)})", rivals[name]))
    shuffled = held_out.scored_controls.get("shuffled_images")
    if shuffled is not None:
        sentences.append(
            f"With another question's image next to each question it scores {shuffled.score:.2f}: the rest of its"
            " score comes from seeing the right image."
        )
    return sentences


def does_not_show(study: StudyData) -> list[str]:
    """Sentences on the conclusions that the study does not support, the winner's curse first."""
    sentences = [_curse(study)]
    if study.result is not None:
        seed = "unknown" if study.result.seed is None else study.result.seed
        sentences.append(
            "What another seed of the search would give: the intervals only show the effect of the choice of test"
            f" items, and this is a single search, seed {seed}."
        )
        sentences += [study.result.caution] if study.result.caution else []
    data = study.header.get("data") or {}
    task = data.get("test", study.task)
    sentences += [
        f"Anything beyond one task ({task}): other abilities of the sources may be lost; they were not tested.",
        "That the merge is safe to use: it was not aligned afterwards, and it may have the faults of every source.",
    ]
    if any(source.model.startswith("zoo:") or "/zoo/" in source.model for source in study.recipe.sources):
        sentences.append(
            "How well large models would do on photographs: these are the small models of the zoo, on rendered scenes."
        )
    return sentences


def _tied(study: StudyData, result: Result) -> list[str]:
    evolved = result.held_out.evolved
    return [
        tied_words(study),
        f"On {evolved.items or 'the'} held-out items that candidate scored {evolved.score:.2f} (95 % interval"
        f" {evolved.ci95[0]:.2f} to {evolved.ci95[1]:.2f}). Differences from other rows are not the search's doing.",
    ]


def _against(name: str, cell: Cell) -> str:
    versus = cell.versus_evolved
    if versus is None:
        return f"In comparison, {name} scored {cell.score:.2f}."
    mean, (low, high) = versus.mean, versus.ci95
    text = f"It scored {mean:+.2f} points against {name} (95 % interval of the difference {low:+.2f} to {high:+.2f})"
    if versus.certain:
        return text + f": {'better' if mean > 0 else 'worse'}, by more than the choice of items explains."
    if low > 0 or high < 0:
        return text + ": not significant once corrected for all comparisons of the table."
    return text + ": the interval contains zero, so the difference is not significant."


def _curse(study: StudyData) -> str:
    text = (
        "That the best score of the search is real: the best of many noisy scores is partly luck (the winner's curse)."
    )
    chosen = None if study.result is None else study.result.selection
    if chosen is None:
        return text + " This applies to the scores over trials; wait for the held-out scores."
    return (
        f"{text} The winner, trial {chosen.trial}, scored {chosen.search_score:.2f} on the search items and"
        f" {chosen.choice_score:.2f} on fresh ones ({-chosen.luck:+.2f}). Trust only the held-out table."
    )
