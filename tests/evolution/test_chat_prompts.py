"""Searches that ask in chat templates: refused before any work without one; sources without one use the owner's."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.single_model import answer_source
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.models.zoo_models import FOLDER
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import RecipeError
from tests.command import evovlm_here

TEMPLATE = (
    "{{ bos_token }}Q: {{ messages[0].content if messages[0].content is string else messages[0].content[1].text }}"
)
SETTINGS = EvolveSettings(trials=2, items=4, judged=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recipe of two language models of the zoo, which asks in a chat template, and its data."""
    for name in ("base", "ja", "math"):
        shutil.copytree(FOLDER / name, tmp_path / name)
        for path in (tmp_path / name).glob("chat_template*"):
            path.unlink()
        path = tmp_path / name / "tokenizer_config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("chat_template", None)
        path.write_text(json.dumps(content), encoding="utf-8")
    for split, first in (("search", 1), ("test", 50)):
        rows = [{"question": f"{n} たす {n} は?", "reference": str(2 * n)} for n in range(first, first + 8)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": "base"},
        "sources": [{"name": name, "model": name} for name in ("ja", "math")],
        "owner": "ja",
        "method": "task_arithmetic",
        "parameters": {"ja": {"weight": 0.5}, "math": {"weight": 0.5}},
        "search": {"algorithm": "cmaes", "population": 2},
        "data": {
            "search": "custom-maths@search.jsonl:search",
            "test": "custom-maths@test.jsonl:test",
            "preset": "chat+short.yaml",
        },
    }
    (tmp_path / "short.yaml").write_text("max_new_tokens: 4\n", encoding="utf-8")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def test_an_owner_without_a_template_is_named_before_any_work(root: Path):
    told = f"data.preset: chat+short.yaml asks in the owner's chat template, and there is none in {root / 'ja'};"
    with pytest.raises(RecipeError, match=re.escape(told)):
        plan_evolution(read_recipe(root / "r.yaml"), root, SETTINGS)
    for words in (("evolve", "r.yaml", "--out", "out"), ("recipe", "check", "r.yaml", "--no-ask", "--json")):
        done = evovlm_here(*words, folder=root)
        assert done.returncode == 2
        assert "asks in the owner's chat template" in " ".join((done.stdout + done.stderr).split())
        assert "Traceback" not in done.stderr
    assert not (root / "out").exists()


LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("key", "template", "told"),
    [
        pytest.param("owner", LOOPS, "far too long", marks=pytest.mark.slow),
        ("owner", "{{ bos_token }}", "leaves out the question"),
        ("recipe", "", "leaves out the question"),
        ("recipe", "no question here", "leaves out the question"),
    ],
)
def test_a_template_that_cannot_ask_is_named_before_any_work(root: Path, key: str, template: str, told: str):
    recipe = yaml.safe_load((root / "r.yaml").read_text(encoding="utf-8"))
    if key == "recipe":
        (root / "r.yaml").write_text(yaml.safe_dump(recipe | {"chat_template": template}), encoding="utf-8")
    else:
        (root / "ja" / "chat_template.jinja").write_text(template, encoding="utf-8")
    place = "chat_template: the template" if key == "recipe" else f"{root / 'ja' / 'chat_template.jinja'}: the chat"
    with pytest.raises(RecipeError, match=re.escape(place)) as found:
        plan_evolution(read_recipe(root / "r.yaml"), root, SETTINGS)
    assert told in str(found.value)
    done = evovlm_here("recipe", "check", "r.yaml", "--no-ask", folder=root)
    assert done.returncode == 2
    assert told in " ".join(done.stdout.split())


def test_files_that_only_processors_read_give_a_language_model_no_template(root: Path):
    for name in ("chat_template.json", "processor_config.json"):
        (root / "ja" / name).write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")
    with pytest.raises(RecipeError, match="there is none in"):
        plan_evolution(read_recipe(root / "r.yaml"), root, SETTINGS)


def test_the_recipe_s_own_template_is_enough(root: Path):
    recipe = read_recipe(root / "r.yaml").model_copy(update={"chat_template": TEMPLATE})
    assert plan_evolution(recipe, root, SETTINGS).recipe.chat_template == TEMPLATE


@pytest.mark.parametrize("own", [False, True])
def test_a_source_is_asked_in_its_own_template_or_in_the_merged_model_s(root: Path, own: bool):
    (root / "ja" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    if own:
        (root / "math" / "chat_template.jinja").write_text(TEMPLATE.replace("Q:", "問題:"), encoding="utf-8")
    plan = plan_evolution(read_recipe(root / "r.yaml"), root, SETTINGS)
    told: list[str] = []
    evaluator = LocalEvaluator(plan.assembly, batch=4, tell=told.append)
    found = answer_source(evaluator, plan.assembly.sources["math"], plan.search_items)
    assert len(found.answers) == 4
    lent = "math has no chat template of its own; it is asked in that of the merged model"
    assert (lent in told) == (not own)
    # The same answers as with the template that should have been used in its own files.
    template = TEMPLATE.replace("Q:", "問題:") if own else TEMPLATE
    (root / "math" / "chat_template.jinja").write_text(template, encoding="utf-8")
    again = answer_source(evaluator, plan.assembly.sources["math"], plan.search_items)
    assert again.answers == found.answers
