"""The recipes for today's families, offline, from the root: models cut down, in the hub's cache or as folders."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoConfig, GenerationConfig

from tests.command import Done, evovlm_in_turn
from tests.hub_cache import cache_repository
from tests.merging.test_vlm_families import save_text
from tests.test_reproduce import ROOT, save_data_sets, save_visual_genome
from tests.vlm_families import save_family

# The tiny family that stands for a recipe's vision-language model; None: language models alone.
RECIPES = {
    "qwen3-vl-swallow": "qwen3_vl",
    "qwen2.5-vl-abeja": "qwen2_5_vl",
    "internvl3-abeja": "internvl3",
    "paligemma2-jpn": "paligemma2",
    "pixtral-shisa": "pixtral",
    "qwen2.5-maths-ja": None,
}


def save_models(name: str, folder: Path) -> dict[str, Path]:
    """A recipe's models, by their name on the hub."""
    recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    made = save_family(RECIPES[name] or "qwen2_5_vl", folder / "seeing")
    models = {}
    for seed, source in enumerate((recipe["base"], *recipe["sources"])):
        if RECIPES[name] is not None and source.get("name") == recipe["owner"]:
            models[source["model"]] = folder / "seeing"
            continue
        models[source["model"]] = folder / str(seed)
        tower = AutoConfig.from_pretrained(folder / "seeing").get_text_config()
        save_text(folder / str(seed), tower, made.tower, seed, made.processor.tokenizer)
        # Models that know nothing never end an answer; one token in sixteen ends theirs, instead of 1,024 tokens.
        ends = list(range(0, tower.vocab_size, 16))
        GenerationConfig(eos_token_id=ends).save_pretrained(folder / str(seed))
    return models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """The repository's root as far as the recipes use it, and the hub's data sets."""
    root = tmp_path_factory.mktemp("clone")
    (root / "recipes").mkdir()
    for name in RECIPES:  # eight blocks of layers are for models of more than four
        text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        (root / "recipes" / f"{name}.yaml").write_text(text.replace("groups: 8 ", "groups: 2 "), encoding="utf-8")
    save_visual_genome(root / "data" / "ja-vg-vqa")
    return root, save_data_sets(tmp_path_factory.mktemp("made"))


# All are run by relative paths, and this one from the hub's cache too.
CACHED = "qwen3-vl-swallow"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "beside"), [*((name, True) for name in RECIPES), (CACHED, False)])
def test_a_recipe_is_checked_merged_searched_and_scored(
    name: str, beside: bool, tmp_path: Path, data: tuple[Path, dict[str, Path]]
):
    """beside: the models are folders, which the recipe names by paths relative to itself. The commands then share one
    process, as starting a Python that loads torch takes longer than most of them.
    """
    clone, sets = data
    cache = tmp_path / "home" / "hub"
    stem = f"{name}-beside" if beside else name
    models = save_models(name, clone / "models" / stem if beside else tmp_path / "models")
    if beside:
        name_folders(clone / "recipes", name, stem, models)
    else:
        for model, folder in models.items():
            cache_repository(cache, model, folder)
    for dataset, folder in sets.items():
        cache_repository(cache, dataset, folder, "datasets")
    environment = dict(os.environ) | {
        "HF_HOME": str(cache.parent),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(str(ROOT / place) for place in (".", "app", "benchmarks")),
    }
    environment.pop("HF_HUB_CACHE", None)

    file = f"recipes/{stem}.yaml"
    task = "mgsm-ja:test" if RECIPES[name] is None else "ja-vg-vqa-500:test"
    preset = yaml.safe_load((clone / file).read_text(encoding="utf-8"))["data"]["preset"]
    suite = {"models": [{"name": "merged", "model": f"merged/{stem}"}], "tasks": [{"task": task, "preset": preset}]}
    (clone / f"{stem}-suite.yaml").write_text(yaml.safe_dump(suite))
    few, search = ("--items", "4", "--judged", "4", "--checkpoint"), ("evolve", file, "--out", f"runs/{stem}")
    commands: list[tuple[str, ...]] = [
        ("recipe", "check", file),
        ("merge", file, f"merged/{stem}"),
        (*search, "--trials", "2", *few),
        *([(*search, "--trials", "3", *few)] if name == CACHED else []),
        ("report", f"runs/{stem}"),
        ("bench", "run", f"{stem}-suite.yaml", "--out", f"runs/bench-{stem}", "--items", "3"),
    ]
    run = evovlm_in_turn if beside else each_by_itself
    done = list(run(commands, clone, environment))
    for words, one in zip(commands, done, strict=False):
        assert one.returncode == 0, f"{words}\n{one.stdout[-3000:]}\n{one.stderr[-3000:]}"
    assert len(done) == len(commands)
    assert "fits" in done[0].stdout
    result = read_json(clone / "runs" / stem / "result.json")
    assert result["trials"] == (3 if name == CACHED else 2)
    # The text models of these tests have no chat templates, as most bases have none.
    assert not [row for row in result["held_out"]["sources"].values() if "error" in row], result["held_out"]
    scored = read_json(clone / "runs" / f"bench-{stem}" / "results.json")["results"]
    assert [row["model"] for row in scored] == ["merged"]


def each_by_itself(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Iterator[Done]:
    """As a user starts them."""
    for words in commands:
        program = [sys.executable, "-P", "-m", "evovlm", *words]
        done = subprocess.run(
            program, cwd=folder, env=dict(environment), capture_output=True, text=True, encoding="utf-8"
        )
        yield Done(done.returncode, done.stdout, done.stderr)
        if done.returncode:
            return


def name_folders(recipes: Path, name: str, stem: str, models: dict[str, Path]) -> None:
    """A copy of a recipe with folders, as seen from it, in place of ids."""
    content = yaml.safe_load((recipes / f"{name}.yaml").read_text(encoding="utf-8"))
    for one in (content["base"], *content["sources"]):
        one["model"] = f"../{models[one['model']].relative_to(recipes.parent)}"
    (recipes / f"{stem}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
