"""A recipe's values are changed within its file: comments, order and layout stay."""

from pathlib import Path

import pytest

from evovlm.recipe.edit import edited_text
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import parse_recipe, recipe_text

TEXT = """\
# Mine.
kind: llm   # language
base: {model: org/base}  # the base
sources:
  # first
  - name: near   # near one
    model: near
  - {name: far, model: org/far, revision: v2}
  - name: third
    model: org/third   # here
    revision: main  # keep this
method: ties
dtype: float32
data:
  search: gsm8k-ja-search:search  # s
  test: mgsm-ja:test

# end
"""
NEW = """\
# Mine.
kind: llm   # language
base: {model: org/base, revision: b}  # the base
sources:
  # first
  - name: near   # near one
    model: near
    revision: near1
  - {name: far, model: org/far, revision: far1}
  - name: third
    model: org/third   # here
    revision: third1  # keep this
method: ties
dtype: float32
data:
  search: gsm8k-ja-search:search  # s
  test: mgsm-ja:test
  revisions: {a/b: '0123'}

# end
"""


def read(text: str) -> Recipe:
    return parse_recipe(text, Path("r.yaml"))


def test_revisions_are_written_where_they_belong_and_all_else_stays():
    assert edited_text(TEXT, read(TEXT), read(NEW)) == NEW
    assert edited_text(NEW, read(NEW), read(NEW)) == NEW


def test_the_hash_in_the_first_line_follows():
    before = recipe_text(read(TEXT))
    assert edited_text(before, read(TEXT), read(NEW)).startswith(f"# evovlm recipe {read(NEW).digest()}\n")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("base: {model: org/base}", "base: &b {model: org/base}").replace("- {name: far", "- {name: far"),
        "merge_method: linear\ndtype: float32\nmodels:\n  - {model: org/far, parameters: {weight: 1}}\n",
    ],
)
def test_what_is_read_again_is_the_recipe_that_was_meant(text: str):
    before = read(text)
    after = before.model_copy(
        update={"sources": tuple(one.model_copy(update={"revision": "0" * 40}) for one in before.sources)}
    )
    assert read(edited_text(text, before, after)) == after
