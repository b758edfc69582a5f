import time
from pathlib import Path

import pytest

from evovlm.recipe.shipped import named_recipe
from evovlm.recipe.yaml_file import parse_recipe, placed_errors, read_recipe, recipe_text, write_recipe
from evovlm.system.errors import RecipeError

HERE = Path("my.yaml")
GOOD = """\
kind: llm
base: {model: org/base}
sources:
  - {name: ja, model: org/ja}
  - name: math
    model: org/math
method: dare_ties
options:
  rescale: l1
  lambda: 0.9
groups: 2
parameters:
  ja:
    weight: {embeddings: 0.1, layers 0-1: 0.5}
    density: 0.8
search:
  trials: 10
  weight: [0, 1.5]
"""


def test_a_good_recipe_is_read():
    recipe = parse_recipe(GOOD, HERE)
    assert recipe.options.lambda_ == 0.9
    assert recipe.of("ja").weight == {"embeddings": 0.1, "layers 0-1": 0.5}
    assert recipe.search is not None
    assert recipe.search.weight is not None
    assert recipe.search.weight.high == 1.5


@pytest.mark.parametrize(
    ("wrong", "right", "line", "says"),
    [
        ("method: dare_ties", "methd: dare_ties", 7, "did you mean 'method'?"),
        ("rescale: l1", "rescale: l3", 9, "'l1', 'inverse', 'per_element' or 'none'"),
        ("    model: org/math", "    modle: org/math", 6, "did you mean 'model'?"),
        ("density: 0.8", "density: 1.8", 15, "less than or equal to 1"),
        ("  trials: 10", "  trails: 10", 17, "did you mean 'trials'?"),
        ("kind: llm", "kind: vlm", 1, "owner"),
        ("weight: [0, 1.5]", "weight: [1.5, 0]", 18, "low < high"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_way_out(wrong: str, right: str, line: int, says: str):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(GOOD.replace(wrong, right), HERE)
    assert f"my.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_every_mistake_is_told_at_once():
    broken = GOOD.replace("rescale: l1", "rescale: l3").replace("density: 0.8", "density: 1.8")
    with pytest.raises(RecipeError) as caught:
        parse_recipe(broken, HERE)
    assert "my.yaml:9:" in str(caught.value)
    assert "my.yaml:15:" in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(RecipeError, match="method: is required"):
        parse_recipe(GOOD.replace("method: dare_ties\n", ""), HERE)


def test_a_key_given_twice_is_refused():
    with pytest.raises(RecipeError, match=r"my\.yaml:8: the key 'kind' appears twice"):
        parse_recipe(GOOD.replace("options:", "kind: llm\noptions:"), HERE)


def test_broken_yaml_is_told_with_its_line():
    with pytest.raises(RecipeError, match=r"my\.yaml:3: not valid YAML"):
        parse_recipe("kind: llm\nbase: {model: [x\n", HERE)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_what_is_not_a_mapping_is_refused(text: str):
    with pytest.raises(RecipeError, match="mapping"):
        parse_recipe(text, HERE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match="no such recipe file"):
        read_recipe(tmp_path / "absent.yaml")


def test_a_binary_file_is_refused(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match="cannot be read as text"):
        read_recipe(path)


def test_a_written_recipe_reads_back_the_same(tmp_path: Path):
    recipe = parse_recipe(GOOD, HERE)
    write_recipe(recipe, tmp_path / "again.yaml")
    assert read_recipe(tmp_path / "again.yaml") == recipe
    assert recipe.digest() in recipe_text(recipe).splitlines()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_recipe_that_ships_is_valid(path: Path):
    assert read_recipe(path).search is not None


def test_of_very_many_mistakes_the_first_are_told_at_once():
    text = GOOD + "".join(f"wrong{number}: 1\n" for number in range(6000))
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, HERE)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("my.yaml:19: wrong0: unknown key")
    assert lines[-1] == "my.yaml: and up to 5980 more mistakes"
    assert time.process_time() - began < 5


def test_a_link_to_itself_is_named_as_a_link(tmp_path: Path):
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    with pytest.raises(RecipeError, match=r"loop.yaml: cannot be read \(Too many levels of symbolic links\); give"):
        named_recipe(path)


@pytest.mark.parametrize("value", ["0", "-1", "3000000", "1.5", "wholly", "[1]", "null"])
def test_a_wrong_number_of_groups_is_told_the_range(tmp_path: Path, value: str):
    text = "kind: llm\nsources: [{name: a, model: org/a}]\nmethod: linear\ngroups: " + value + "\n"
    with pytest.raises(RecipeError, match=r"r.yaml:4: groups: must be `whole`, a number .* from 1 to 1024, or"):
        parse_recipe(text, tmp_path / "r.yaml")


def test_a_mapping_is_not_also_told_to_be_a_number(tmp_path: Path):
    text = "kind: llm\nsources: [{name: a, model: org/a}]\nmethod: linear\ngroups: {all: [1]}\n"
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text, tmp_path / "r.yaml")
    assert str(refused.value).count("\n") == 0
    assert "groups.all" in str(refused.value)


def test_what_is_found_out_later_is_named_by_file_and_line(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("kind: llm\ndata:\n  search: nope:search\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"r.yaml:3: data.search: unknown task"), placed_errors(path):
        raise RecipeError("data.search: unknown task 'nope'")
    with pytest.raises(RecipeError, match=r"^org/a: data is missing$"), placed_errors(path):
        raise RecipeError("org/a: data is missing")


def test_a_mapping_in_the_place_of_a_bound_is_named(tmp_path: Path):
    text = "kind: llm\nsources: [{name: a, model: org/a}]\nmethod: linear\nsearch: {weight: [{}, 1.5]}\n"
    with pytest.raises(RecipeError, match=r"r\.yaml:4: search\.weight"):
        parse_recipe(text, tmp_path / "r.yaml")
