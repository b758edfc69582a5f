"""Answers as they grow, on the zoo: in turn, within memory, and no further than somebody looks on."""

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evovlm.engines.chat import Placed
from evovlm.models.zoo_models import FOLDER
from evovlm.system.errors import UserError
from evovlm_app.asking import Asker
from evovlm_app.cards import cards
from evovlm_app.catalogue import offer
from evovlm_app.limits import Refusal
from evovlm_app.model_cache import ModelCache


@pytest.fixture(scope="module")
def asker() -> Asker:
    offering = offer([], Path("no-studies"))
    return Asker(offering, ModelCache(2_000_000_000))


def long_problem(asker: Asker, names: list[str], least: int) -> str:
    """A problem that each of the models answers with more tokens than `least`."""
    for item in asker.problems.items:
        if all(row["tokens"] > least for row in list(asker.solve(item.question, names, None))[-1]):
            return item.question
    raise AssertionError(f"{names} answer every problem in {least} tokens or fewer")


def test_the_models_take_turns_token_by_token(asker: Asker):
    names = ["math", "math2"]
    problem = long_problem(asker, names, 6)
    steps = [[row["tokens"] for row in rows] for rows in asker.solve(problem, names, None)]
    # Neither is ever more than one token ahead while both write.
    both = [counts for counts in steps if all(counts)]
    assert len(both) > 5
    assert all(abs(a - b) <= 1 for a, b in both[:5])


def test_a_visitor_who_leaves_stops_the_generation(asker: Asker, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    problem = long_problem(asker, ["math"], 3)
    steps = asker.solve(problem, ["math"], None)
    for rows in steps:
        if rows[0]["tokens"] == 3:
            break
    steps.close()
    left = [record for record in caplog.records if record.getMessage() == "left"]
    assert left[-1].facts["models"] == {"math": 3}


def test_the_budget_is_kept_by_putting_the_longest_unused_back():
    offering = offer([], Path("no-studies"))
    models = offering.models("llm")
    need = ModelCache(10**12)._need(models["ja"], mixing=False)
    cache = ModelCache(int(need * 2.5))
    for name in ("ja", "math", "math2", "ja"):
        cache.take(models[name])
        assert cache.nbytes <= cache.budget
    assert cache.loaded == ["math2", "ja"]
    assert [len(wave) for wave in cache.waves(list(models.values()))] == [2, 2]
    with pytest.raises(Refusal, match="no_room"):
        ModelCache(need // 2).take(models["ja"])


def test_models_that_do_not_fit_together_answer_one_after_another():
    offering = offer([], Path("no-studies"))
    small = Asker(offering, ModelCache(int(ModelCache(10**12)._need(offering.models("llm")["ja"], mixing=False) * 1.5)))
    *_, rows = small.solve(small.problems.items[0].question, ["ja", "math"], None)
    assert [row["state"] for row in rows] == ["done", "done"]
    assert small.cache.loaded == ["math"]


def asked_of(folder: Path, *recipes: str, template: bool) -> Asker:
    """The app on recipes with one language model, whose own data say how it is asked."""
    shutil.copytree(FOLDER / "ja", folder / "ja")
    for path in (folder / "ja").glob("chat_template*"):
        path.unlink()
    settings = folder / "ja" / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    content.pop("chat_template", None)
    settings.write_text(json.dumps(content), encoding="utf-8")
    for preset in recipes:
        recipe: dict[str, Any] = {
            "kind": "llm",
            "sources": [{"name": f"ja-{preset}", "model": str(folder / "ja")}],
            "method": "linear",
            "parameters": {f"ja-{preset}": {"weight": 1.0}},
            "data": {"search": "mgsm-ja:search", "test": "mgsm-ja:test", "preset": preset},
        }
        if template:
            recipe["chat_template"] = "{{ bos_token }}{{ messages[0].content }}"
        (folder / f"{preset}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    offering = offer([str(folder / f"{preset}.yaml") for preset in recipes], Path("no-studies"))
    return Asker(offering, ModelCache(2_000_000_000))


def test_each_recipe_s_models_are_asked_as_it_says(tmp_path: Path):
    both = asked_of(tmp_path, "short", "chat", template=True)
    models = both.offering.models("llm")
    chat = {name: offered.generation.chat for name, offered in models.items() if offered.generation is not None}
    assert chat == {"ja-short": False, "ja-chat": True, "merged short": False, "merged chat": True}
    *_, rows = both.solve("1 + 1?", ["ja-chat", "merged chat"], None)
    assert [row["state"] for row in rows] == ["done", "done"]
    assert rows[0]["answer"] == rows[1]["answer"], "in the recipe's chat template, which the source does not have"


def test_a_model_that_cannot_be_asked_in_this_way_says_so_on_its_card(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    both = asked_of(tmp_path, "short", "chat", template=False)
    *_, rows = both.solve("1 + 1?", ["ja-chat", "ja-short"], None)
    assert [row["state"] for row in rows] == ["unasked", "done"]
    assert "cannot be asked in this way" in cards(rows, "en")
    assert any("no chat template" in getattr(record, "facts", {}).get("error", "") for record in caplog.records)


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ("chatt", "preset: mgsm-ja has no 'chatt'; choose from"),
        ("short+missing.yaml", "missing.yaml: no such file"),
    ],
)
def test_a_recipe_with_an_unknown_preset_is_refused_at_the_start(preset: str, told: str, tmp_path: Path):
    """Its models were asked as those of the zoo are."""
    asked_of(tmp_path, "short", template=False)
    recipe = tmp_path / "short.yaml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace("preset: short", f"preset: {preset}"), encoding="utf-8"
    )
    with pytest.raises(UserError, match=rf"^{re.escape(str(recipe))}: .*{re.escape(told)}"):
        offer([str(recipe)], Path("no-studies"))


def test_a_template_that_is_lent_says_where_it_can_be_corrected(tmp_path: Path):
    both = asked_of(tmp_path, "chat", template=True)
    lent = both.offering.models("llm")["merged"].template
    assert isinstance(lent, Placed)
    assert lent.place == "`chat_template` of the recipe chat"
    (tmp_path / "ja" / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    mixable = both.offering.mixables[0]
    stored = replace(mixable, recipe=mixable.recipe.model_copy(update={"chat_template": None})).template
    assert isinstance(stored, Placed)
    assert Path(stored.place).resolve() == tmp_path / "ja" / "chat_template.jinja"
