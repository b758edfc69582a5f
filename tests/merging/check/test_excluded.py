"""The option `exclude` has to name parts of tensors' names, for what matches nothing is a slip."""

from pathlib import Path

import pytest

from tests.command import evovlm_here

RECIPE = """\
kind: llm
base: {model: zoo:base}
sources: [{name: ja, model: zoo:ja}, {name: math, model: zoo:math}]
method: tsv_m
options: {exclude: "WHAT"}
"""


@pytest.mark.parametrize(
    ("what", "named"),
    [("no_such_part", "no_such_part"), ("mlp, q_prj", "q_prj"), ("layers.0", "layers.0"), ("99", "99")],
)
def test_an_exclusion_that_matches_nothing_is_refused(what: str, named: str, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("WHAT", what))
    done = evovlm_here("merge", "mine.yaml", "out", "--dry-run", folder=tmp_path)
    assert done.returncode == 2
    assert f"options.exclude: no tensor has '{named}' between the dots of its name; names are " in done.stderr
    assert "q_proj" in done.stderr


@pytest.mark.parametrize("what", ["", "mlp, norm", "q_proj,lm_head", "embed_tokens", "0"])
def test_an_exclusion_of_what_is_there_or_excluded_by_default_is_taken(what: str, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("WHAT", what))
    done = evovlm_here("recipe", "check", "mine.yaml", "--no-ask", "--json", folder=tmp_path)
    assert done.returncode == 0
    assert "options.exclude" not in done.stdout
