"""Revisions: what the hub's cache resolves is written down, can be pinned, and is what a pinned recipe then reads."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
import yaml

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import CheckpointError, RecipeError
from evovlm.system.hub_cache import origin_of
from evovlm.tasks.item_sets import read_item_sets
from tests.command import Done, evovlm_here
from tests.hub_cache import cache_repository, data_repository
from tests.hub_layouts import make_tokenizer, save_llm

RECIPE = """\
kind: llm
base: {model: org/base}
sources:
  - {name: base-too, model: org/base, revision: v2}
  - {name: near, model: near}
  - {name: far, model: org/far}
method: ties
dtype: float32
data:
  search: gsm8k-ja-search:search
  validation: custom-maths@own.jsonl:validation
  test: mgsm-ja:test
"""
GSM8K, MGSM = "SakanaAI/gsm8k-ja-test_250-1319", "juletxara/mgsm"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small models of one shape."""
    root = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("base", "far")):
        save_llm(root / name, rows=1000, tokenizer=make_tokenizer(1000), seed=seed, num_hidden_layers=1)
    return root


def save_gsm8k(root: Path, word: str) -> Path:
    """One version of the search data, whose questions contain a word."""
    root.mkdir()
    rows = [json.dumps({"question": f"{word}{n * 7919}は", "answer": f"{n}"}) for n in range(250, 1319)]
    (root / "test.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return root


@pytest.fixture
def hub(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A working directory with a recipe, and a hub cache; the commits by repository and branch (if it is not main)."""
    cache = tmp_path / "home" / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    text, number = datasets.Value("string"), datasets.Value("int64")
    shape = datasets.Features({"question": text, "answer": text, "answer_number": number})
    rows = [{"question": f"{n * n}円と{n}円", "answer": None, "answer_number": n} for n in range(250)]
    mgsm = data_repository(tmp_path / "data", MGSM, {"test": (rows, shape)}, config="ja", under="ja")
    commits = {
        "org/base": cache_repository(cache, "org/base", made / "base"),
        "org/far": cache_repository(cache, "org/far", made / "far"),
        "org/base v2": cache_repository(cache, "org/base", made / "far", ref="v2"),
        f"{GSM8K} old": cache_repository(cache, GSM8K, save_gsm8k(tmp_path / "old", "りんご"), "datasets", ref="old"),
        GSM8K: cache_repository(cache, GSM8K, save_gsm8k(tmp_path / "new", "みかん"), "datasets"),
        MGSM: cache_repository(cache, MGSM, mgsm, "datasets"),
    }
    shutil.copytree(made / "far", tmp_path / "near")
    (tmp_path / "own.jsonl").write_text('{"question": "1足す1は", "reference": "2"}\n', encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    return commits


def pin(folder: Path, *words: str) -> Done:
    return evovlm_here("recipe", "pin", *words, folder=folder)


def test_pin_writes_what_the_cache_resolves_and_says_what_has_no_revision(tmp_path: Path, hub: dict[str, str]):
    done = pin(tmp_path, "mine.yaml", "-o", "pinned/exact.yaml")
    assert done.returncode == 2  # the folder is the user's to make
    (tmp_path / "pinned").mkdir()
    done = pin(tmp_path, "mine.yaml", "-o", "pinned/exact.yaml")
    assert done.returncode == 0, done.stderr
    found = read_recipe(tmp_path / "pinned" / "exact.yaml")
    assert found.base is not None
    assert found.base.revision == hub["org/base"]
    assert [one.revision for one in found.sources] == [hub["org/base v2"], None, hub["org/far"]]
    assert found.sources[1].model == "../near"
    assert found.data is not None
    assert found.data.revisions == {GSM8K: hub[GSM8K], MGSM: hub[MGSM]}
    assert found.data.validation == "custom-maths@../own.jsonl:validation"
    left = [line for line in done.stderr.splitlines() if line.startswith("not pinned: ")]
    assert [line.split(": ")[1] for line in left] == ["sources.near", "data.validation"]


def test_pin_prints_without_out_and_what_is_pinned_stays_pinned(tmp_path: Path, hub: dict[str, str]):
    first = pin(tmp_path, "mine.yaml").stdout
    (tmp_path / "exact.yaml").write_text(first, encoding="utf-8")
    cache = tmp_path / "home" / "hub"
    for name in ("models--org--far", f"datasets--{GSM8K.replace('/', '--')}"):
        (cache / name / "refs" / "main").write_text("f" * 40)  # the branches move on
    assert pin(tmp_path, "exact.yaml").stdout == first


def test_pin_overwrites_only_with_force(tmp_path: Path, hub: dict[str, str]):
    done = pin(tmp_path, "mine.yaml", "--out", "mine.yaml")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == RECIPE
    assert pin(tmp_path, "mine.yaml", "--out", "mine.yaml", "--force").returncode == 0
    assert hub["org/far"] in (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    assert pin(tmp_path, "mine.yaml", "--out", "near", "--force").returncode == 2


def test_what_is_not_cached_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, hub: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    done = pin(tmp_path, "mine.yaml")
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["sources"][2] == {"name": "far", "model": "org/far"}
    for text in ("`hf download org/base`", "`hf download org/base --revision v2`"):
        assert text in done.stderr
    for text in (GSM8K, MGSM):
        assert f"not pinned: {text}: not in the local caches; fetch it with" in done.stderr


def words_of(recipe: Recipe, root: Path) -> tuple[str, dict[str, str]]:
    """The first search question of a recipe, and the commits that were read."""
    sets = read_item_sets(recipe, root, count=None, seed=0, judged=None, download=False)
    return sets.search[0].question[:3], dict(sets.commits)


def with_revisions(root: Path, revisions: dict[str, Any]) -> Recipe:
    content = yaml.safe_load(RECIPE)
    content["data"]["revisions"] = revisions
    return Recipe.model_validate(content).counted_from(root)


@pytest.mark.parametrize("by", ["branch", "commit"])
def test_a_data_set_is_read_in_the_revision_that_the_recipe_names(tmp_path: Path, hub: dict[str, str], by: str):
    old = hub[f"{GSM8K} old"]
    assert words_of(with_revisions(tmp_path, {}), tmp_path) == ("みかん", {GSM8K: hub[GSM8K], MGSM: hub[MGSM]})
    recipe = with_revisions(tmp_path, {GSM8K: "old" if by == "branch" else old})
    assert words_of(recipe, tmp_path) == ("りんご", {GSM8K: old, MGSM: hub[MGSM]})


def test_a_revision_that_nothing_reads_or_that_is_not_cached_is_refused(tmp_path: Path, hub: dict[str, str]):
    with pytest.raises(RecipeError, match=r"data\.revisions: no task .* reads 'juletxara/mgms' .*juletxara/mgsm"):
        words_of(with_revisions(tmp_path, {"juletxara/mgms": "main"}), tmp_path)
    with pytest.raises(ValueError, match=r"revision ffff.* is not in the local caches .*--revision ffff"):
        words_of(with_revisions(tmp_path, {GSM8K: "f" * 40}), tmp_path)


def test_a_recipe_without_revisions_of_data_keeps_its_digest_and_text(tmp_path: Path):
    plain, named = with_revisions(tmp_path, {}), with_revisions(tmp_path, {MGSM: "main"})
    assert plain.digest() == named.digest() == Recipe.model_validate(yaml.safe_load(RECIPE)).digest()


def test_a_merge_carries_the_commits_that_it_was_made_of(tmp_path: Path, hub: dict[str, str]):
    done = evovlm_here("merge", "mine.yaml", "merged", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = read_recipe(tmp_path / "merged" / "recipe.yaml")
    assert [one.revision for one in recipe.sources] == [hub["org/base v2"], None, hub["org/far"]]
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert f"(https://huggingface.co/org/far) | {hub['org/far']} |" in card
    assert f"| {hub['org/base v2']} |" in card
    assert "| `near` | `near` | not pinned |" in card
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == ["org/base", "org/far"]
    # The recipe on the card, which leaves paths as the user wrote them, has the digest that the command prints.
    body = card.split("```yaml\n", 1)[1].split("```", 1)[0]
    digest = Recipe.model_validate(yaml.safe_load(body)).digest()
    assert card.count(digest) == 2
    assert digest in done.stdout
    # It rebuilds from itself after the branches have moved on.
    (tmp_path / "home" / "hub" / "models--org--far" / "refs" / "main").write_text("f" * 40)
    again = evovlm_here("merge", "merged/recipe.yaml", "again", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("merged", "again")]
    assert weights[0] == weights[1]


def test_a_folder_in_a_folder_is_no_id_on_the_hub(tmp_path: Path, hub: dict[str, str]):
    (tmp_path / "models").mkdir()
    (tmp_path / "near").rename(tmp_path / "models" / "near")
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("model: near", "model: models/near"), encoding="utf-8")
    assert evovlm_here("merge", "mine.yaml", "merged", folder=tmp_path).returncode == 0
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "models/near" not in card.split("---\n")[1]
    assert "| `near` | `near` | not pinned |" in card
    assert "revision" not in read_recipe(tmp_path / "merged" / "recipe.yaml").sources[1].model_dump(exclude_none=True)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("", "1:1: not valid JSON"),
        ("[]", "must have `model` and `commit`"),
        ("{}", "must have `model` and `commit`"),
        ("[" * 9999, "more than 100 levels"),
    ],
)
def test_a_damaged_file_that_says_where_a_copy_comes_from_is_named(tmp_path: Path, told: str, problem: str):
    (tmp_path / "converted_from.json").write_text(told, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"converted_from.json: ?.*{problem}"):
        origin_of(tmp_path)


@pytest.mark.parametrize("told", ['{"model": 1, "commit": 2}', '{"model": "a/b", "commit": null}'])
def test_a_copy_that_does_not_say_where_it_comes_from_has_no_origin(tmp_path: Path, told: str):
    (tmp_path / "converted_from.json").write_text(told, encoding="utf-8")
    assert origin_of(tmp_path) is None


def test_a_snapshot_and_a_converted_copy_of_it_have_one_origin(tmp_path: Path):
    commit = "0123456789abcdef" * 2 + "01234567"
    told = {"model": "org/na--me", "commit": commit}
    (tmp_path / "converted_from.json").write_text(json.dumps(told), encoding="utf-8")
    snapshot = tmp_path / "models--org--na--me" / "snapshots" / commit
    assert origin_of(tmp_path) == origin_of(snapshot) == ("org/na--me", commit)
