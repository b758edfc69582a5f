"""What makes other answers makes another study: a header binds it, or is bound at the study's next resume."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.search.space.parameters import genes_of
from evovlm.study import log as study_log
from evovlm.study._difference import first_difference
from evovlm.study.header import ContentOf
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import StudyError

RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}],
        "method": "task_arithmetic",
        "search": {"weight": [0.0, 1.0], "density": None},
    }
)
ASKED = {"generation": {"template": "{question}", "max_new_tokens": 64}, "rules": {"scoring": "corrected"}}
WEIGHTS = {"base": "b" * 32, "sources.ja": "a" * 32}


def header(**changes: Any) -> dict[str, Any]:
    content = RECIPE.model_dump(mode="json", by_alias=True)
    made = {
        "format": 1,
        "recipe": content,
        "genes": ["ja.weight.whole"],
        "search": content["search"],
        "items": {"task": "sums", "ids": ["one", "two"]},
        **ASKED,
        "sets": {"search": {"content": "0" * 32}, "test": {"task": "sums", "items": 24, "content": "1" * 32, **ASKED}},
        "versions": {"evovlm": "1"},
    }
    return json.loads(json.dumps(made | changes))  # type: ignore[no-any-return]


def opened(
    folder: Path, made: dict[str, Any], weights: dict[str, str] = WEIGHTS, content_of: ContentOf | None = None
) -> list[str]:
    """Open a study as a command does; returns what the user is told."""
    told: list[str] = []
    study = Study.open(folder, RECIPE, genes_of(RECIPE, 2), made, tell=told.append, content_of=content_of)
    study.bind("weights", weights, told.append)
    if not study.trials:
        study.add(0, (0.5,), "FloatingPointError: the weights are not finite")
    return told


def of_test(value: Any) -> dict[str, Any]:
    sets = header()["sets"]
    return {"sets": sets | {"test": sets["test"] | value}}


OTHERS = [
    ({"generation": ASKED["generation"] | {"max_new_tokens": 8}}, "generation.max_new_tokens", "64", "8"),
    ({"generation": ASKED["generation"] | {"temperature": 0.7}}, "generation.temperature", "0.0", "0.7"),
    ({"rules": {"scoring": "compatible"}}, "rules.scoring", '"corrected"', '"compatible"'),
    ({"eight_bit": True}, "eight_bit", "false", "true"),
    (
        {"sets": header()["sets"] | {"search": {"content": "2" * 32}}},
        "sets.search.content",
        json.dumps("0" * 32),
        json.dumps("2" * 32),
    ),
    (of_test({"content": "2" * 32}), "sets.test.content", json.dumps("1" * 32), json.dumps("2" * 32)),
    (of_test({"rules": {"scoring": "x"}}), "sets.test.rules.scoring", '"corrected"', '"x"'),
]


@pytest.mark.parametrize(("change", "key", "was", "is_now"), OTHERS, ids=[key for _, key, _, _ in OTHERS])
def test_what_makes_other_answers_is_refused_with_its_key_and_both_values(
    tmp_path: Path, change: dict[str, Any], key: str, was: str, is_now: str
):
    opened(tmp_path / "s", header())
    kept = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(StudyError, match=re.escape(f"another `{key}` ({was}; now {is_now})")):
        opened(tmp_path / "s", header(**change))
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == kept


def test_eight_bits_are_refused_the_other_way_round_too(tmp_path: Path):
    opened(tmp_path / "s", header(eight_bit=True))
    with pytest.raises(StudyError, match=re.escape("another `eight_bit` (true; now false)")):
        opened(tmp_path / "s", header())


def test_other_weights_are_refused_and_say_what_that_means(tmp_path: Path):
    opened(tmp_path / "s", header())
    other = WEIGHTS | {"sources.ja": "c" * 32}
    values = f'("{"a" * 32}"; now "{"c" * 32}"): the model\'s files have changed; resume'
    with pytest.raises(StudyError, match=re.escape(f"another `weights.sources.ja` {values}")):
        opened(tmp_path / "s", header(), other)


def test_the_same_study_is_resumed_without_a_word(tmp_path: Path):
    assert opened(tmp_path / "s", header()) == []
    before = (tmp_path / "s" / study_log.HEADER).read_bytes()
    assert opened(tmp_path / "s", header(versions={"evovlm": "2"})) == []
    assert (tmp_path / "s" / study_log.HEADER).read_bytes() == before


LACKING = ("generation", "rules", "sets", "items", "genes")


@pytest.mark.parametrize("key", [*LACKING, "weights"])
@pytest.mark.parametrize("damage", [None, 5, [1]])
def test_a_header_without_a_part_is_bound_at_the_next_resume_with_a_sentence(tmp_path: Path, key: str, damage: Any):
    """Earlier versions did not write it; or it is damaged, so that it counts as missing."""
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / study_log.HEADER
    whole = files.read_json(path)
    files.write_json(path, {name: value for name, value in whole.items() if name != key} | _damaged(key, damage))
    told = opened(tmp_path / "s", header())
    assert [line for line in told if f"lacked `{key}`; from now on the study is bound" in line]
    assert [f"`{key}` is damaged" in line for line in told].count(True) == (damage is not None)
    assert files.read_json(path) == whole
    assert opened(tmp_path / "s", header()) == []
    changed = {"genes": ["x"]} if key == "genes" else {key: {"task": "x", "ids": ["x"]} if key == "items" else {}}
    with pytest.raises(StudyError, match=f"another `{key}"):
        opened(tmp_path / "s", header(**changed), {"base": "x"} if key == "weights" else WEIGHTS)


def _damaged(key: str, damage: Any) -> dict[str, Any]:
    return {} if damage is None else {key: damage}


@pytest.mark.parametrize("damage", [None, 5, [1]])
def test_a_header_without_its_recipe_is_an_error(tmp_path: Path, damage: Any):
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / study_log.HEADER
    whole = files.read_json(path)
    files.write_json(path, {k: v for k, v in whole.items() if k != "recipe"} | _damaged("recipe", damage))
    with pytest.raises(StudyError, match=r"study\.json: its `recipe` is missing or damaged; restore the file"):
        opened(tmp_path / "s", header())


def test_a_setting_that_came_later_counts_as_its_default(tmp_path: Path):
    stored = ASKED["generation"]
    assert "num_beams" not in stored
    opened(tmp_path / "s", header())
    assert opened(tmp_path / "s", header(generation=stored | {"num_beams": 1})) == []


def test_a_rule_that_came_later_is_bound_and_then_refused(tmp_path: Path):
    opened(tmp_path / "s", header())
    more = {"rules": ASKED["rules"] | {"reading": "new"}}
    assert any("`rules`" in line for line in opened(tmp_path / "s", header(**more)))
    with pytest.raises(StudyError, match=re.escape('another `rules.reading` ("new"; now "old")')):
        opened(tmp_path / "s", header(rules=ASKED["rules"] | {"reading": "old"}))


def test_another_number_of_items_to_judge_is_the_same_study(tmp_path: Path):
    """If the number of before still gives the items of before."""
    more = header(**of_test({"items": 100, "asked": 100, "content": "3" * 32}))
    opened(tmp_path / "s", header())
    with pytest.raises(StudyError, match=re.escape("another `sets.test.items` (24; now 100)")):
        opened(tmp_path / "s", more)
    told = f'another `sets.test.content` ("{"1" * 32}"; now "{"5" * 32}"): its questions'
    with pytest.raises(StudyError, match=re.escape(told)):
        opened(tmp_path / "s", more, content_of=lambda name, count: "5" * 32)
    counts: list[tuple[str, int]] = []

    def content_of(name: str, count: int) -> str:
        counts.append((name, count))
        return "1" * 32

    sentences = opened(tmp_path / "s", more, content_of=content_of)
    assert counts == [("test", 24)]
    assert sentences == [f"{tmp_path / 's'}: 100 test items, before 24; what depends on them is made again"]
    assert opened(tmp_path / "s", more, content_of=content_of) == []
    with pytest.raises(StudyError, match=re.escape("another `sets.test.content`")):
        opened(tmp_path / "s", header(**of_test({"items": 100, "asked": 100, "content": "4" * 32})))


LONG = "x" * 70
DIFFERENCES = [
    ("items.ids[1]", '"two"', '"three"', {"items": {"task": "sums", "ids": ["one", "three"]}}),
    ("items.ids[2]", "nothing", '"three"', {"items": {"task": "sums", "ids": ["one", "two", "three"]}}),
    ("rules.scoring", '"corrected"', f'"{LONG[:59]}...', {"rules": {"scoring": LONG}}),
    ("generation.stop[0]", "nothing", '"\\n"', {"generation": ASKED["generation"] | {"stop": ["\n"]}}),
]


@pytest.mark.parametrize(("key", "was", "is_now", "change"), DIFFERENCES, ids=[one[0] for one in DIFFERENCES])
def test_the_first_place_that_differs_is_shown(tmp_path: Path, key: str, was: str, is_now: str, change: dict[str, Any]):
    opened(tmp_path / "s", header())
    with pytest.raises(StudyError, match=re.escape(f"another `{key}` ({was}; now {is_now})")):
        opened(tmp_path / "s", header(**change))


ALIKE = [
    (LONG, LONG + "y"),
    (LONG + "a" + LONG, LONG + "b" + LONG),
    ("\u304c", "\u304b\u3099"),  # a composed and a decomposed letter
    ("a", "a\u200b"),
    ("A", "\uff21"),
    ([LONG, LONG, "a"], [LONG, LONG, "b"]),
    ({"k": None}, {}),
    ({"k": [1, [2, {"deep": LONG + "1"}]]}, {"k": [1, [2, {"deep": LONG + "2"}]]}),
    (1, "1"),
    ([], {}),
]


@pytest.mark.parametrize(("one", "other"), [*ALIKE, *((b, a) for a, b in ALIKE)])
def test_two_values_that_differ_never_look_the_same(one: Any, other: Any):
    where, first, second = first_difference("key", one, other)
    assert first != second
    visible = [re.sub(r"[^\x20-\x7e\u3040-\u309f]", "", text) for text in (first, second)]
    assert visible[0] != visible[1]
    assert max(len(first), len(second)) <= 80
    assert where.startswith("key")


@pytest.mark.parametrize("format", [2, 99])
def test_a_study_of_a_newer_format_is_refused_and_left_as_it_is(tmp_path: Path, format: int):
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / study_log.HEADER
    files.write_json(path, files.read_json(path) | {"format": format})
    kept = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(StudyError, match=f"a study of format {format}, and this version of evovlm reads formats up to"):
        opened(tmp_path / "s", header())
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == kept


@pytest.mark.parametrize("format", ["1", None, True, {}])
def test_a_format_that_is_no_number_is_told(tmp_path: Path, format: Any):
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / study_log.HEADER
    files.write_json(path, files.read_json(path) | {"format": format})
    with pytest.raises(StudyError, match=r"`format` is .*, not a number"):
        opened(tmp_path / "s", header())


@pytest.mark.parametrize("name", [study_log.TRIALS, study_log.EVENTS, study_log.ANSWERS])
def test_a_torn_last_line_of_any_log_is_mended_by_the_next_row(tmp_path: Path, name: str):
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / name
    rows = list(files.read_rows(path))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"time": "2026')
    assert list(files.read_rows(path)) == rows
    files.append_rows(path, [{"event": "resumed"}])
    assert list(files.read_rows(path)) == [*rows, {"event": "resumed"}]


@pytest.mark.parametrize("name", [study_log.TRIALS, study_log.ASKS, study_log.EVENTS, study_log.ANSWERS])
def test_a_torn_last_line_of_any_log_is_mended_when_the_study_is_opened(tmp_path: Path, name: str):
    opened(tmp_path / "s", header())
    path = tmp_path / "s" / name
    whole = path.read_bytes() if path.exists() else b""
    path.write_bytes(whole + b'{"trial": 7, "sc')
    opened(tmp_path / "s", header())
    assert path.read_bytes() == whole or name == study_log.EVENTS
    assert not files.is_unfinished(path)


def test_a_search_of_one_score_is_a_tie_and_of_two_is_none(tmp_path: Path):
    def trials(*scores: float | None, **more: Any) -> list[study_log.Trial]:
        common = {"generation": 0, "genome": (), "digest": "", "spread": 0, "exact": 0, "seconds": {}, "error": None}
        return [study_log.Trial(trial=n, score=score, **common, **more) for n, score in enumerate(scores)]

    assert study_log.tied(trials(0.0, 0.0, 0.0)) == 3
    assert study_log.tied(trials(50.0, 50.0 + 1e-12)) == 2
    assert study_log.tied(trials(0.0, None, 0.0)) == 2, "a candidate that failed has no score"
    assert study_log.tied(trials(0.0, 0.1)) == 0
    assert study_log.tied(trials(0.0)) == study_log.tied([]) == 0
    assert study_log.tied(trials(0.0, 0.0, values=(0.0, -8.0))) == 2
    front = [one.model_copy(update={"values": (0.0, -float(one.trial))}) for one in trials(0.0, 0.0)]
    assert study_log.tied(front) == 2, "that they differ in another objective does not choose a winner"
    ahead = [one.model_copy(update={"values": (float(one.trial), -8.0)}) for one in trials(0.0, 1.0)]
    assert study_log.tied(ahead) == 0
