"""The report: one self-contained HTML page about a study, and its score plot as SVG. Read from the log alone.

Knows the study's files and plotly; opens no models.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evovlm import study_log
from evovlm.recipe import Recipe, value_at
from evovlm.recipe_file import read_recipe
from evovlm.study_log import Trial

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8886; }
img { image-rendering: auto; width: 96px; max-width: 30vw; }
"""
LIMITS = (
    "The winner was chosen because it scored high, so its search score flatters it (the winner's curse); the held-out"
    " table is what counts. It speaks of this data alone, and a merged model inherits the faults of its sources."
)


def write_report(study: Path) -> Path:
    """Write STUDY/report.html and STUDY/scores.svg; returns the page's path. A study under way has a report too."""
    header, trials = study_log.read_header(study), study_log.read_trials(study)
    result_path = study / study_log.RESULT
    result = study_log.read_json(result_path) if result_path.exists() else None
    sections = [
        f"<h1>Study {html.escape(study.name)}</h1>",
        f"<p>Task {html.escape(str(header['items']['task']))}, {len(header['items']['ids'])} search items,"
        f" {len(trials)} trials, seed {header['search']['seed']}, {html.escape(header['hardware'])},"
        f" evovlm {html.escape(header['versions']['evovlm'])}.</p>",
        _table(result["held_out"]) if result else "<p>Not judged on held-out items yet.</p>",
        f"<p>{LIMITS}</p>",
        _figure(_scores(trials)),
        *_best(study),
        _answers(study),
        _failures(trials),
    ]
    page = study / "report.html"
    page.write_text(_page("\n".join(sections)), encoding="utf-8")
    write_svg(study, study / "scores.svg")
    return page


def write_svg(study: Path, path: Path) -> None:
    """The scores over trials as a small SVG: a dot a trial, a line for the best so far."""
    scored = [(trial.trial, trial.score) for trial in study_log.read_trials(study) if trial.score is not None]
    width, height, edge = 720, 300, 44
    most = max((number for number, _ in scored), default=0) or 1
    low = min((score for _, score in scored), default=0.0)
    span = max((score for _, score in scored), default=1.0) - low or 1.0

    def place(number: float, score: float) -> tuple[float, float]:
        x = edge + (width - 2 * edge) * number / most
        return round(x, 1), round(height - edge - (height - 2 * edge) * (score - low) / span, 1)

    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="3" fill="#0072b2" fill-opacity="0.5"/>'
        for x, y in (place(*one) for one in scored)
    )
    best = [place(number, max(score for _, score in scored[: index + 1])) for index, (number, _) in enumerate(scored)]
    line = " ".join(f"{x},{y}" for x, y in best)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
        f'<rect width="{width}" height="{height}" fill="white"/>{dots}'
        f'<polyline points="{line}" fill="none" stroke="#d55e00" stroke-width="2"/>'
        f'<text x="{edge}" y="{height - 14}">trial 0</text>'
        f'<text x="{width - edge}" y="{height - 14}" text-anchor="end">{most}</text>'
        f'<text x="{edge}" y="24">search score, {low:.1f} to {low + span:.1f}; line: best so far</text></svg>\n',
        encoding="utf-8",
    )


def _page(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>evovlm study</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>{body}</body></html>\n"
    )


def _figure(figure: go.Figure) -> str:
    figure.update_layout(template="plotly_white", margin={"l": 50, "r": 20, "t": 50, "b": 40}, height=380)
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    )


def _scores(trials: Sequence[Trial]) -> go.Figure:
    scored = [trial for trial in trials if trial.score is not None]
    best: list[float] = []
    for trial in scored:
        best.append(max(trial.score or 0.0, best[-1] if best else float("-inf")))
    numbers = [trial.trial for trial in scored]
    figure = go.Figure(layout={"title": "Score over trials (search items)"})
    figure.add_scatter(
        x=numbers, y=[trial.score for trial in scored], mode="markers", name="trial", marker={"color": "#0072b2"}
    )
    figure.add_scatter(x=numbers, y=best, mode="lines", name="best so far", line={"color": "#d55e00"})
    return figure


def _best(study: Path) -> list[str]:
    path = study / study_log.BEST
    if not path.exists():
        return []
    recipe = read_recipe(path)
    figures = [_heat_map(recipe, "weight"), _heat_map(recipe, "density")]
    text = html.escape(path.read_text(encoding="utf-8"))
    return [*map(_figure, figures), f"<h2>Best recipe</h2><pre>{text}</pre>"]


def _heat_map(recipe: Recipe, parameter: str) -> go.Figure:
    """A source a row, a layer group a column."""
    given = {name: getattr(recipe.of(name), parameter) for name in recipe.source_names}
    groups = next((list(value) for value in given.values() if isinstance(value, dict)), ["whole"])
    values = [[value_at(given[name], group, 1.0) for group in groups] for name in given]
    heat = go.Heatmap(z=values, x=groups, y=list(given), colorscale="Cividis", texttemplate="%{z:.2f}")
    return go.Figure(heat, layout={"title": f"{parameter} by source and layer group"})


def _table(held_out: dict[str, Any]) -> str:
    rows = [(f"source {name}", cell) for name, cell in held_out["sources"].items()]
    rows.append(("evolved", held_out["evolved"]))
    rows += [(f"control {name}", cell) for name, cell in held_out["controls"].items()]
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td class=number>{cell['score']:.2f}</td>"
        f"<td class=number>{cell['ci95'][0]:.1f} to {cell['ci95'][1]:.1f}</td>"
        f"<td class=number>{cell['exact']:.1%}</td></tr>"
        for name, cell in rows
    )
    head = "<tr><th>model</th><th>score</th><th>95 % interval</th><th>exact</th></tr>"
    return f"<h2>Held-out items ({held_out['evolved']['items']})</h2><table>{head}{body}</table>"


def _answers(study: Path) -> str:
    """Every model's answers to the items whose images were kept."""
    by_item: dict[str, list[dict[str, Any]]] = {}
    for row in study_log.read_rows(study / study_log.HELD_OUT_ANSWERS):
        by_item.setdefault(row["id"], []).append(row)
    shown: list[str] = []
    for item, rows in by_item.items():
        path = study / "images" / f"{item}.png"
        picture = ""
        if path.exists():
            data = base64.b64encode(path.read_bytes()).decode()
            picture = f'<img alt="the picture that is asked about" src="data:image/png;base64,{data}">'
        elif shown and "<img" in shown[0]:
            continue
        said = "".join(
            f"<tr><td>{html.escape(row['model'])}</td><td>{html.escape(row['answer'])}</td>"
            f"<td class=number>{row['score']:.0f}</td></tr>"
            for row in rows
        )
        reference = html.escape(" / ".join(rows[0]["references"]))
        shown.append(f"<h3>{html.escape(rows[0]['question'])} ({reference})</h3>{picture}<table>{said}</table>")
    return "<h2>Answers side by side</h2>" + "".join(shown[:12]) if shown else ""


def _failures(trials: Sequence[Trial]) -> str:
    failed = [f"<li>trial {trial.trial}: {html.escape(trial.error)}</li>" for trial in trials if trial.error]
    return f"<h2>Failed candidates</h2><ul>{''.join(failed)}</ul>" if failed else ""
