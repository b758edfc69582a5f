"""Plots in the page's language."""

import json
import re
from pathlib import Path

from evovlm.report.data import read_study
from evovlm_app.evolution import _figures
from evovlm_app.plot_translations import in_language
from tests.report.study_folder import make_study


def test_every_plot_speaks_japanese_and_keeps_its_numbers(tmp_path: Path):
    study = read_study(make_study(tmp_path / "study"))
    figures = [figure for figure in _figures(study) if figure is not None]
    assert len(figures) == 5
    for figure in figures:
        said = in_language(figure, study, "ja")
        titles = [said.layout[axis].get("title", {}).get("text", "") for axis in ("xaxis", "yaxis")]
        words = [*titles, *(trace.get("name", "") for trace in said.data), said.alt]
        assert all(re.search("[ぁ-んァ-ン一-龠]", text) for text in words if text), words
        assert json.dumps([trace["x"] for trace in said.data]) == json.dumps([trace["x"] for trace in figure.data])
        assert in_language(figure, study, "en") is figure
