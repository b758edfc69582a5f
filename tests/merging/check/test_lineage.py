"""What a model was tuned from, where its card or configuration says so, and a base of another name."""

import json
import shutil
from pathlib import Path

import pytest

from evovlm.merging.check import Finding, check_recipe
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Recipe
from tests.hub_cache import cache_repository
from tests.hub_layouts import save_llm, save_vlm

BASE = "mistralai/Mistral-7B-v0.1"
MERGED = "tags: [mergekit, merge]\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lineage")
    base = save_llm(root / "base", seed=1)
    save_llm(root / "ja", ancestor=base, seed=2)
    save_vlm(root / "vlm", ancestor=base, seed=3)
    return root


def told(root: Path, source: str, base: str | None, tmp: Path, method: str = "task_arithmetic") -> list[Finding]:
    """Findings about the lineage of a source: one of `root`, beside a base that is a folder, or on the hub."""
    content = {"kind": "llm", "sources": [{"name": "ja", "model": source}], "method": method}
    recipe = Recipe.model_validate(content if base is None else content | {"base": {"model": base}})
    opened = None if base is None else open_model("base", base, None, tmp, is_base=True)
    found = check_recipe(recipe, opened, [open_model("ja", source, None, root)])
    return [finding for finding in found if finding.key.endswith("_from")]


def described(saved: Path, tmp_path: Path, name: str, card: str, **config: str) -> str:
    """A copy of a saved model with another card, and settings in the part of its configuration that is a tower's."""
    folder = tmp_path / "copies" / name
    shutil.copytree(saved / name, folder)
    (folder / "README.md").write_text(f"---\n{card}---\n# A model\n", encoding="utf-8")
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.get("text_config", content).update({f"_{key}": value for key, value in config.items()})
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


@pytest.fixture
def hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The base in the hub's cache, under its name."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    cache_repository(tmp_path / "cache", BASE, saved / "base")
    return BASE


def test_a_base_that_the_card_names_is_noted(saved: Path, tmp_path: Path, hub: str):
    ja = described(saved, tmp_path, "ja", f"base_model: {BASE}\n")
    (finding,) = told(tmp_path, ja, hub, tmp_path)
    assert (finding.level, finding.key) == ("note", "sources.ja.tuned_from")
    assert finding.text == f"{BASE} (base_model in README.md)"


def test_a_copy_of_the_base_under_another_owner_is_the_base(saved: Path, tmp_path: Path, hub: str):
    ja = described(saved, tmp_path, "ja", "base_model: [unsloth/mistral-7b-v0.1]\n")
    assert [finding.level for finding in told(tmp_path, ja, hub, tmp_path)] == ["note"]


def test_another_base_than_the_card_names_is_a_warning(saved: Path, tmp_path: Path, hub: str):
    ja = described(saved, tmp_path, "ja", "base_model: mistralai/Mistral-7B-v0.3\n")
    (finding,) = told(tmp_path, ja, hub, tmp_path)
    assert finding.level == "warning"
    assert finding.text.startswith(
        f"mistralai/Mistral-7B-v0.3 (base_model in README.md), but the recipe's base is {BASE}"
    )


def test_without_task_vectors_no_base_is_compared(saved: Path, tmp_path: Path):
    ja = described(saved, tmp_path, "ja", "base_model: mistralai/Mistral-7B-v0.3\n")
    assert [finding.level for finding in told(tmp_path, ja, None, tmp_path, method="linear")] == ["note"]


def test_a_base_in_a_folder_is_to_be_looked_at(saved: Path, tmp_path: Path):
    ja = described(saved, tmp_path, "ja", f"base_model: {BASE}\n")
    (finding,) = told(tmp_path, ja, str(saved / "base"), tmp_path)
    assert finding.level == "note"
    assert "make sure that the base (base) is that model" in finding.text


def test_what_a_tower_was_tuned_from_is_in_its_configuration(saved: Path, tmp_path: Path, hub: str):
    tower = "mistralai/Mistral-7B-Instruct-v0.2"
    vlm = described(saved, tmp_path, "vlm", "license: apache-2.0\n", name_or_path=tower)
    (finding,) = told(tmp_path, vlm, hub, tmp_path)
    assert finding.level == "warning"
    assert finding.text.startswith(f"{tower} (_name_or_path in config.json), but the recipe's base is {BASE}")


def test_a_vision_models_card_may_name_another_vision_model(saved: Path, tmp_path: Path, hub: str):
    vlm = described(saved, tmp_path, "vlm", "base_model: llava-hf/llava-v1.6\n")
    assert [finding.level for finding in told(tmp_path, vlm, hub, tmp_path)] == ["note"]


@pytest.mark.parametrize("card", [MERGED, "base_model_relation: merge\n"])
def test_a_merge_is_said_to_be_one(saved: Path, tmp_path: Path, hub: str, card: str):
    ja = described(saved, tmp_path, "ja", f"base_model: [a/one, b/two]\n{card}")
    (finding,) = told(tmp_path, ja, hub, tmp_path)
    assert (finding.level, finding.key) == ("note", "sources.ja.merged_from")
    assert finding.text == "a/one and b/two (base_model in README.md)"


@pytest.mark.parametrize(
    ("card", "path"),
    [("base_model: 7\n", "x"), ("base_model: {a: b}\n", "./output/run-3"), ("license: mit\n", "/home/x/checkpoint-90"),
     ("base_model: a/ja\n", "b/ja"), ("base_model: ['a b/c', null, [x]]\n", "../up")],
)  # fmt: skip
def test_what_is_no_name_of_another_model_is_not_reported(saved: Path, tmp_path: Path, hub: str, card: str, path: str):
    ja = described(saved, tmp_path, "ja", card, name_or_path=path)
    assert told(tmp_path, ja, hub, tmp_path) == []
