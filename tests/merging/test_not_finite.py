"""A merge whose values are not finite names what can be changed, and nothing that is so already."""

from pathlib import Path

import pytest

from tests.command import evovlm_here

RECIPE = """\
kind: llm
base: {model: zoo:base}
sources: [{name: ja, model: zoo:ja}, {name: math, model: zoo:math}]
dtype: DTYPE
"""
WEIGHTS = "method: linear\nparameters: {ja: {weight: 1.0e+6}, math: {weight: 1.0e+6}}\noptions: {normalize: false}\n"


def refused(text: str, folder: Path) -> str:
    (folder / "mine.yaml").write_text(text)
    done = evovlm_here("merge", "mine.yaml", "out", folder=folder)
    assert done.returncode == 2
    return done.stderr


def test_the_option_that_makes_task_vectors_infinite_is_named(tmp_path: Path):
    told = refused(RECIPE.replace("DTYPE", "bfloat16") + "method: wudi\noptions: {rate: 1.0e+308}\n", tmp_path)
    assert "the task vectors that wudi makes are not finite; change `options.rate`" in told
    assert "weights" not in told
    assert "dtype" not in told


def test_weights_and_a_dtype_are_named_in_float16(tmp_path: Path):
    told = refused(RECIPE.replace("DTYPE", "float16") + WEIGHTS, tmp_path)
    assert "the merged values are not finite in float16; lower the weights of group" in told
    assert "or set `dtype: bfloat16` or `float32`" in told


@pytest.mark.slow
def test_a_search_of_broken_candidates_says_what_to_change(tmp_path: Path):
    search = (
        "method: task_arithmetic\nsearch: {weight: [-1.0e+6, 1.0e+6], density: null, trials: 4, population: 4}\n"
        "data: {search: zoo-maths:search, validation: zoo-maths:validation, test: zoo-maths:test}\n"
    )
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("DTYPE", "bfloat16") + search)
    done = evovlm_here("evolve", "mine.yaml", "--out", "study", "--items", "4", "--judged", "2", folder=tmp_path)
    assert done.returncode == 2
    assert "no candidate has a score (every answer is empty); change what is searched, such as" in done.stderr
    assert "CandidateFault" not in done.stderr
