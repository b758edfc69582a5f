"""A study as HTML for the Evolution tab: its state, held-out table, and answers of generation 0 against the last.

Knows a study's data and the texts; no components. Everything that comes from files is escaped.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from evovlm.report.data import ProgressAnswer, StudyData
from evovlm.report.words import control_name
from evovlm.study import log as study_log
from evovlm.study.result import Cell, FailedRow
from evovlm.system.errors import UserError
from evovlm.tasks import Item, Options, parse_split
from evovlm_app.searches import Searches
from evovlm_app.words import WORDS, Language, say

ANSWERS_SHOWN = 8
WATCHED = (study_log.TRIALS, study_log.RESULT, study_log.BEST, study_log.ANSWERS)


def stamp(folder: Path, searches: Searches) -> tuple[Any, ...]:
    """A value that changes whenever there is something new to show."""
    running = searches.running
    mine = running is not None and running.name == folder.name
    sizes = tuple(path.stat().st_size if (path := folder / name).exists() else -1 for name in WATCHED)
    return (
        folder.name,
        running is not None,
        mine,
        running.phase if mine and running else "",
        searches.failure(folder.name),
        *sizes,
    )


def state_line(study: StudyData, searches: Searches, language: Language) -> str:
    """One line of HTML: searching, evaluating, stopped, finished or failed, and the best score."""
    done, running = len(study.trials), searches.running
    failure = searches.failure(study.folder.name)
    share = 100.0
    if running is not None and running.name == study.folder.name:
        style, share = "running", 100 * done / max(1, running.trials)
        judging = running.phase not in ("start", "search")
        text = (
            say("state_judging", language, phase=phase_name(running.phase, language))
            if judging
            else say("state_running", language, done=done, total=running.trials)
        )
    elif failure is not None:
        style, text = "failed", say("state_failed", language, reference=failure)
    elif study.result is not None and study.result.trials == done:
        style, text = "done", say("state_done", language, done=done)
    else:
        style, text = "stopped", say("state_stopped", language, done=done)
    best = study_log.best_trial(study.trials)
    if study.tied and best is not None:
        text += " · " + say("all_tied", language, score=f"{best.score:.2f}")
    elif best is not None:
        text += " · " + say("best_score", language, score=f"{best.score:.2f}")
    bar = f'<span class="bar"><i style="width:{share:.0f}%"></i></span>' if style == "running" else ""
    return f'<p class="state {style}" role="status" data-state="{style}" data-done="{done}">{escape(text)}{bar}</p>'


def starting_line(name: str, searches: Searches, language: Language) -> str | None:
    """One line of HTML for a search without a log: it is starting, or it failed early. None if there is no search."""
    running, failure = searches.running, searches.failure(name)
    if running is not None and running.name == name:
        return f'<p class="state running" role="status" data-state="starting">{escape(say("starting", language))}</p>'
    if failure is not None:
        told = escape(say("state_failed", language, reference=failure))
        return f'<p class="state failed" role="status" data-state="failed">{told}</p>'
    return None


def held_out_table(study: StudyData, language: Language) -> str:
    """HTML table of sources, evolved merge and controls on the held-out items; empty until the search has ended."""
    if study.result is None:
        return ""
    held = study.result.held_out
    evolved = say("evolved", language)
    controls = [(_control(name, language), cell) for name, cell in held.controls.items()]
    taken = {evolved, *(name for name, _ in controls)}
    sources = [
        (say("source_named", language, name=name) if name in taken else name, cell)
        for name, cell in held.sources.items()
    ]
    cells: list[tuple[str, Cell | FailedRow]] = [*sources, (evolved, held.evolved), *controls]
    judged, rows = held.evolved.content is not None, ""
    for name, cell in cells:
        if isinstance(cell, FailedRow):
            rows += f"<tr><th scope=row>{escape(name)}</th><td colspan={3 + judged}>{escape(cell.error)}</td></tr>"
            continue
        low, high = cell.ci95
        style = ' class="evolved"' if cell is held.evolved else ""
        rows += (
            f"<tr{style}><th scope=row>{escape(name)}</th><td>{cell.score:.1f}</td>"
            f"<td>{low:.1f} – {high:.1f}</td>{_content(cell) if judged else ''}<td>{cell.exact:.0%}</td></tr>"
        )
    keys = ("model", "score", "interval", *(["content"] if judged else []), "exact")
    head = "".join(f"<th scope=col>{escape(say(key, language))}</th>" for key in keys)
    caption = escape(f"{say('held_out', language)} ({held.evolved.items})")
    return f'<div class="scroll"><table class="held"><caption>{caption}</caption><tr>{head}</tr>{rows}</table></div>'


def _content(cell: Cell) -> str:
    return f"<td>{'' if cell.content is None else f'{cell.content:.0%}'}</td>"


def changed_answers(study: StudyData, language: Language) -> str:
    """HTML of search items as answered by the best of generation 0 and by the final best."""
    generation = {trial.trial: trial.generation for trial in study.trials}
    first: dict[str, ProgressAnswer] = {}
    last: dict[str, ProgressAnswer] = {}
    for row in study.answers:
        if generation.get(row.trial) == 0:
            first[row.id] = row
        last[row.id] = row
    data = study.header.get("data") or {}
    items = _items(str(data.get("search", "")), data.get("preset"), study.item_ids)
    # Answers that changed come first: they are more informative.
    shown = sorted(first, key=lambda key: first[key].answer == last[key].answer)[:ANSWERS_SHOWN]
    cards = "".join(_changed(first[key], last[key], items.get(key), language) for key in shown)
    if not cards:
        return ""
    title = escape(say("answers_changed", language))
    return f'<h3>{title}</h3><div class="changed">{cards}</div>'


def phase_name(phase: str, language: Language) -> str:
    """A search's phase in the page's language; the search's own name for it if there is no translation."""
    key = f"phase_{phase.replace(' ', '_')}"
    return say(key, language) if key in WORDS else phase


def _control(name: str, language: Language) -> str:
    key = f"control_{name}"
    return say(key, language) if key in WORDS else control_name(name)


def _changed(first: ProgressAnswer, last: ProgressAnswer, item: Item | None, language: Language) -> str:
    question = item.question if item else first.id
    picture = ""
    if item is not None and item.image is not None:
        picture = f'<img src="{_data_uri(item.image())}" alt="{escape(question)}" width="72" height="72">'
    reference = ""
    if item is not None:
        words = f"{say('reference', language)}: {item.references[0]}"
        reference = f'<p class="reference" lang="ja">{escape(words)}</p>'
    lines = "".join(
        f'<tr><th scope=row>{escape(say(key, language))}</th><td lang="ja">{escape(row.answer) or "–"}</td>'
        f"<td>{row.score:.0f}</td></tr>"
        for key, row in (("first_answer", first), ("last_answer", last))
    )
    return (
        f'<article>{picture}<div><p lang="ja">{escape(question)}</p>{reference}</div><table>{lines}</table></article>'
    )


@lru_cache(maxsize=8)
def _items(where: str, preset: str | None, ids: tuple[str, ...]) -> dict[str, Item]:
    """The search's items by id, from its task; empty if the task's data are not on this machine."""
    try:
        task, split = parse_split(where, Options(preset=preset))
        for seed in range(3):  # the header has the item ids, but not the seed that drew them
            found = {item.id: item for item in task.items(split, len(ids), seed)}
            if set(ids) <= set(found):
                return found
    except (UserError, OSError):
        return {}
    return {}


def _data_uri(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((144, 144))
    sink = io.BytesIO()
    small.save(sink, format="PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
