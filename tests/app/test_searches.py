"""Searches that the app starts, from the folder where the operator happens to be."""

import time
from pathlib import Path

import pytest

from evovlm_app.catalogue import offer
from evovlm_app.searches import Searches


@pytest.mark.slow
def test_a_search_runs_where_files_have_the_names_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("random.py", "numpy.py", "evovlm.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong file was run')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    studies = tmp_path / "studies"
    searches = Searches(studies, nice=0)
    try:
        searches.start("mine", offer([], studies).mixable("zoo-vlm"), trials=2, items=4, seed=0)
        while searches.running is not None:
            time.sleep(0.1)
        assert (studies / "mine" / "result.json").is_file(), searches.failure("mine")
    finally:
        searches.close()
