"""Whatever stands in a recipe: a sentence with file, line and key, at once."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from evovlm.recipe import limits
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import parse_recipe, read_recipe
from evovlm.system.errors import RecipeError

PLAIN = """\
kind: llm
base: {model: base}
sources:
  - {name: a, model: one}
  - {name: b, model: two}
method: ties
"""


def told(text: str) -> str:
    """What reading a recipe's text says, within two seconds of processor time."""
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, Path("r.yaml"))
    assert time.process_time() - began < 2
    return str(caught.value)


def bomb(line: str, first: str) -> str:
    """Ten levels of ten aliases each; `line` has a place for the level and for its aliases."""
    levels = [line.format(level, ", ".join([f"*a{level - 1}"] * 10)) for level in range(1, 10)]
    return "\n".join([first, *levels, PLAIN])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb("a{0}: &a{0} [{1}]", "a0: &a0 [x]"), ":5: its aliases stand for more than 20,000 values"),
        (bomb("a{0}: &a{0} {{<<: [{1}]}}", "a0: &a0 {x: 1}"), "its aliases stand for more than 20,000 values"),
        (PLAIN + "x: &x [*x]", "r.yaml:7: an alias stands within its own anchor"),
        (PLAIN + "groups: " + "[" * 3000, "r.yaml:7: more than 50 levels"),
        ("\n".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]" for n in range(90)), "nest more than 50 levels deep"),
        (PLAIN + "seed: !secret 1", "r.yaml:7: the tag !secret is not read here"),
        (PLAIN + "seed: !!python/name:os.system", "r.yaml:7: the tag !!python/name:os.system is not read"),
        (PLAIN + "<<: text", "r.yaml:7: not valid YAML: expected a mapping"),
        (PLAIN + "? [seed]\n: 1", "r.yaml:7: a key is a list or a mapping"),
        (PLAIN + "no: 1", "r.yaml:7: the key no is read as bool; put it in quotes"),
        (PLAIN + "7: 1", "r.yaml:7: the key 7 is read as int; put it in quotes"),
        (PLAIN + f"seed: {'9' * 5000}", "r.yaml:7: a number of 5,000 characters; give at most 100"),
        (PLAIN + "seed: 1:2", "r.yaml:7: seed: Input should be a valid integer"),
        (PLAIN + "options: {lambda: 1.0e+999}", "r.yaml:7: options.lambda: Input should be a finite number"),
        (PLAIN + "options: {lambda: .nan}", "r.yaml:7: options.lambda: Input should be a finite number"),
        (PLAIN.replace("ties", "no"), "r.yaml:6: method: is read as false; give a number, or put a text in quotes"),
        (PLAIN.replace("ties", "7"), "r.yaml:6: method: Input should be a valid string, but this is read as 7"),
        (PLAIN.replace("ties", r'"a\0b"'), r"r.yaml:6: the character '\x00' is not allowed"),
        (PLAIN.replace("ties", r'"\ud800"'), r"r.yaml:6: the character '\ud800' is not allowed"),
        (PLAIN + "search: {trials: yes}", "r.yaml:7: search.trials: is read as true"),
        (PLAIN + "search: {fidelity: yes}", "search.fidelity: is read as true; give its settings, such as `base_tile`"),
        (PLAIN + f"search: {{fidelity: {'x' * 200}}}", f"search.fidelity: '{'x' * 60}...' is not known; give `auto`"),
        (PLAIN + "search: {density: [-5.0, 5.0]}", "r.yaml:7: search.density: bounds [-5.0, 5.0] leave 0 to 1"),
        (PLAIN + "\x00", "r.yaml:7: not valid YAML"),
        (PLAIN + "#" * limits.MOST_BYTES, f"larger than {limits.MOST_BYTES:,} characters"),
        ("", "r.yaml: a recipe is a mapping"),
        ("- 1", "r.yaml: a recipe is a mapping"),
    ],
    ids=lambda value: value[-30:] if isinstance(value, str) else None,
)
def test_a_hostile_text_gets_file_line_and_reason(text: str, says: str):
    assert says in told(text)


def test_a_date_is_a_text():
    assert parse_recipe(PLAIN.replace("ties", "2001-99-99"), Path("r.yaml")).method == "2001-99-99"


def test_anchors_and_merge_keys_are_read():
    text = PLAIN + "parameters:\n  a: &a {weight: 0.5, density: 0.25}\n  b: {<<: *a, weight: 0.75}\n"
    recipe = parse_recipe(text, Path("r.yaml"))
    assert (recipe.of("b").weight, recipe.of("b").density) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("folder", "it is a folder"),
        ("pipe", "it is a pipe"),
        ("endless", "it is a device"),
        ("large", f"it has more than {limits.MOST_BYTES:,} bytes"),
        ("utf-16", "it is UTF-16; save it as UTF-8"),
        ("latin-1", ":2: cannot be read as text: byte 3 is not UTF-8"),
    ],
)
def test_only_an_ordinary_utf_8_file_is_read(kind: str, says: str, tmp_path: Path):
    path = tmp_path / "r.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        content = {"large": b"#" * (limits.MOST_BYTES + 1), "utf-16": PLAIN.encode("utf-16"), "latin-1": b"#\n#\xe9"}
        path.write_bytes(content[kind])
    with pytest.raises(RecipeError, match=f"^{path}.*{says}"):
        read_recipe(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + PLAIN.encode())
    assert read_recipe(tmp_path / "r.yaml").method == "ties"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 2**63}, "seed"),
        ({"sources": [{"name": f"s{n}", "model": "m"} for n in range(limits.MOST_SOURCES + 1)]}, "sources"),
        ({"sources": [{"name": "a", "model": ""}]}, "sources.0.model"),
        ({"parameters": {"a": {"weight": 1e300}}}, "parameters.a.weight"),
        ({"parameters": {"a": {"weight": {"whole": True}}}}, "parameters.a"),
        ({"groups": limits.MOST_LAYERS + 1}, "groups"),
        ({"groups": {"all": ["layers 0-99999999"]}}, "groups"),
        ({"slices": [{"source": "a", "layers": [0, 10**9]}]}, "slices.0.layers.1"),
        ({"slices": [{"source": "a", "layers": [0, 900]}] * 2}, "slices"),
        ({"route": [{"source": "a", "layer": 0, "scale": 1e308}]}, "route"),
        ({"route": [{"source": "a", "layer": 0, "scale": 1e-9}] * 3}, "route"),
        ({"search": {"population": 10**9}}, "search.population"),
        ({"search": {"trials": 10**9}}, "search.trials"),
        ({"search": {"items": 10**12}}, "search.items"),
        ({"search": {"batch": 10**9}}, "search.batch"),
        ({"search": {"weight": [-1e308, 1e308]}}, "search.weight.low"),
        ({"search": {"objectives": ["layers"] * 9}}, "search.objectives"),
        ({"search": {"route": {"hidden": 10**6}}}, "search.route.hidden"),
        ({"search": {"route": {"repeats": 10**6}}}, "search.route.repeats"),
        ({"search": {"route": {"prefix": {"source": "a", "layers": 10**6}}}}, "search.route.prefix.layers"),
        ({"search": {"fidelity": {"beams": 10**6}}}, "search.fidelity.beams"),
        ({"then": {"winners": 10**6, "search": {}}}, "then.winners"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_size_beyond_its_limit_is_refused_when_the_recipe_is_read(change: dict[str, Any], key: str):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(yaml.safe_load(PLAIN) | change)
    places = [".".join(map(str, error["loc"])) for error in caught.value.errors()]
    assert any(place.startswith(key) for place in places), places
