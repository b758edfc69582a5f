"""docs/extending.md, installed as a plugin and used from the command line, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evovlm.models.families import Family
from evovlm.models.zoo_models import zoo_folder
from evovlm.search import SearchSettings
from tests.command import Companion, Done
from tests.hub_layouts import reshard, save_llm, save_vlm

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's module, installed as a wheel leaves it, and the page's recipe."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "mine.py").write_text("\n\n".join(blocks("python")), encoding="utf-8")
    installed = folder / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.+?)"', blocks("toml")[0])
    assert group is not None
    (installed / "entry_points.txt").write_text(f"[{group[1]}]\nmine = mine\n")
    (folder / "mine.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return folder


Evovlm = Callable[..., Done]


def companion(plugin: Path) -> Companion:
    """A process in the plugin's folder that sees the plugin as installed."""
    paths = [str(plugin), str(ROOT), str(ROOT / "app"), str(ROOT / "benchmarks")]
    return Companion(plugin, os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def evovlm(plugin: Path) -> Iterator[Evovlm]:
    """`evovlm WORDS` in that process."""
    with companion(plugin) as other:
        yield other.evovlm


def inside(code: str, plugin: Path) -> str:
    """What a program prints that sees the plugin as installed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(plugin), str(ROOT)])}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=plugin, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def test_each_addition_takes_at_most_ten_lines():
    for block in blocks("python"):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
        assert len(lines) <= 10, block


def test_the_new_method_merges_two_models_through_a_recipe(plugin: Path, evovlm: Evovlm):
    done = evovlm("merge", "mine.yaml", "merged")
    assert done.returncode == 0, done.stderr
    base, ja, math, merged = (
        weights(folder) for folder in (zoo_folder("base"), zoo_folder("ja"), zoo_folder("math"), plugin / "merged")
    )
    name = "model.layers.3.mlp.up_proj.weight"
    whole = {label: model[name].float() for label, model in (("base", base), ("ja", ja), ("math", math))}
    # Of two numbers torch takes the lower one for the median.
    deltas = torch.minimum(0.9 * (whole["ja"] - whole["base"]), whole["math"] - whole["base"])
    assert torch.equal(merged[name], (whole["base"] + deltas).to(torch.bfloat16))


def test_the_new_methods_option_is_read_checked_searched_and_merged(plugin: Path, evovlm: Evovlm):
    text = (plugin / "mine.yaml").read_text(encoding="utf-8")
    text = text.replace("method: median", "method: median\noptions: {mean: 0.25, lambda: 0.5}")
    text = text.replace("density: null", "density: null, options: {mean: [0, 1], lambda: [0.5, 1]}")
    (plugin / "mixed.yaml").write_text(text, encoding="utf-8")
    (plugin / "wrong.yaml").write_text(text.replace("mean: 0.25", "mean: 1.25"), encoding="utf-8")
    assert evovlm("recipe", "check", "mixed.yaml").returncode == 0
    refused = evovlm("recipe", "check", "wrong.yaml")
    line = 1 + text.splitlines().index("options: {mean: 0.25, lambda: 0.5}")
    assert refused.returncode == 2
    assert f"wrong.yaml:{line}: options.mean: Input should be less than or equal to 1" in refused.stderr
    planned = evovlm("evolve", "mixed.yaml", "--out", "mixed", "--dry-run", "--no-measure")
    assert "ja.weight.whole, math.weight.whole, options.mean.whole, options.lambda.whole" in planned.stdout
    done = evovlm("merge", "mixed.yaml", "mixed")
    assert done.returncode == 0, done.stderr
    assert "mean: 0.25" in (plugin / "mixed" / "README.md").read_text(encoding="utf-8")
    name = "model.layers.3.mlp.up_proj.weight"
    base, ja, math = (weights(zoo_folder(label))[name].float() for label in ("base", "ja", "math"))
    deltas = torch.stack([0.9 * (ja - base), math - base])
    middle = torch.lerp(deltas.median(dim=0).values, deltas.mean(dim=0), 0.25)
    assert torch.equal(weights(plugin / "mixed")[name], (base + 0.5 * middle).to(torch.bfloat16))


def test_the_new_method_is_listed_and_has_a_section_for_the_page_and_no_file_here_names_it(
    plugin: Path, evovlm: Evovlm
):
    assert "median" in evovlm("methods").stdout
    row = json.loads(evovlm("methods", "median", "--json").stdout)
    assert row["doc"] == "Add the median of the weighted task vectors, element by element"
    assert [(option["name"], option["default"], option["own"]) for option in row["options"]] == [
        ("lambda", 1.0, False),
        ("mean", 0.0, True),
    ]
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
from evovlm.system.plugins import load_plugins
load_plugins()
from write_methods import METHODS, section
print(section(METHODS["median"]))
"""
    section = inside(code, plugin).splitlines()
    assert section[0] == "## median"
    assert section[-2] == (
        "| `mean` | `0.0` | a number, at least 0, at most 1 | the share of the mean in place of the median |"
    )
    assert not [path for path in (ROOT / "evovlm").rglob("*.py") if '"median"' in path.read_text(encoding="utf-8")]


def test_the_new_method_merges_live_models_alike_by_threads_and_by_the_path_of_a_gpu(plugin: Path):
    pytest.importorskip("triton", reason="the path of a GPU needs Triton: pip install 'evovlm[gpu]'")
    code = """
import torch
from pathlib import Path
from evovlm.system.plugins import load_plugins
load_plugins()
from evovlm.merging.assembly import assemble
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.gpu import DeviceMerger
from evovlm.merging.live.placement import Placement
from evovlm.recipe.yaml_file import read_recipe
recipe = read_recipe(Path("mine.yaml"))
assembly = assemble(recipe, recipe.root)
towers = [{job.name: torch.nn.Parameter(torch.zeros(job.shape)) for job in assembly.jobs} for _ in range(2)]
labels = ("base", "ja", "math")
placement = Placement(dict.fromkeys(labels, "gpu"), dict.fromkeys(labels, 0))
mergers = ResidentMerger(assembly, towers[0], threads=2), DeviceMerger(assembly, towers[1], placement, tell=print)
for mean in (0.0, 0.5):
    for merger in mergers:
        merger.merge(recipe.with_options({"mean": mean}))
    sizes = sum(float(one.abs().sum()) for one in towers[0].values())
    print(all(torch.equal(one, towers[1][name]) for name, one in towers[0].items()), sizes)
"""
    told, first, second = inside(code, plugin).splitlines()
    assert told == "merged on the GPU, one tensor at a time: median has no fused kernel"
    assert first.startswith("True ")
    assert second.startswith("True ")
    assert first != second


def test_the_new_task_is_asked(plugin: Path, evovlm: Evovlm):
    done = evovlm("evaluate", "zoo:ja", "--data", "next-number:test", "--items", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert 0 <= json.loads(done.stdout)["score"] <= 100
    assert "next-number" in evovlm("bench", "tasks").stdout


def test_the_new_searcher_runs_a_study_of_the_new_method_on_the_new_task(plugin: Path, evovlm: Evovlm):
    assert evovlm("recipe", "check", "mine.yaml").returncode == 0
    done = evovlm("evolve", "mine.yaml", "--out", "study", "--judged", "8")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (plugin / "study" / "trials.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    # Both generations are what the page's searcher draws, the second around the best of the first.
    settings, rng = SearchSettings(genes=2), np.random.default_rng(0)
    first = settings.draw(rng, 8)
    best = max(rows[:8], key=lambda row: row["score"])["genome"]
    drawn = [*first, *replace(settings, start=tuple(best)).draw(rng, 8)[:4]]
    assert [row["genome"] for row in rows] == [list(genome) for genome in drawn]
    assert json.loads((plugin / "study" / "result.json").read_text())["task"] == "next-number"


def test_the_new_familys_checkpoint_opens_and_merges(plugin: Path, evovlm: Evovlm, tmp_path: Path):
    base = save_llm(tmp_path / "base")
    ja = save_llm(tmp_path / "ja", ancestor=base, seed=1)
    lens = save_vlm(tmp_path / "lens", ancestor=base, seed=2)
    reshard(lens, 1, {"language_model.": "lens.text."})  # the same tensors, under the new family's names
    config = json.loads((lens / "config.json").read_text(encoding="utf-8"))
    (lens / "config.json").write_text(json.dumps(config | {"model_type": "lens"}), encoding="utf-8")
    recipe = {
        "kind": "vlm",
        "base": {"model": str(base)},
        "sources": [{"name": "lens", "model": str(lens)}, {"name": "ja", "model": str(ja)}],
        "owner": "lens",
        "method": "task_arithmetic",
        "parameters": {"lens": {"weight": 1.0}, "ja": {"weight": 0.5}},
        "dtype": "float32",
    }
    (tmp_path / "lens.yaml").write_text(json.dumps(recipe))
    done = evovlm("merge", str(tmp_path / "lens.yaml"), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    before, after = weights(lens), weights(tmp_path / "out")
    assert set(after) == set(before)
    eyes = [name for name in before if not name.startswith("lens.text.")]
    assert eyes
    assert all(torch.equal(after[name], before[name].float()) for name in eyes)
    name = "layers.1.mlp.down_proj.weight"
    base_value, ja_value = (weights(folder)[f"model.{name}"].float() for folder in (base, ja))
    expected = before[f"lens.text.model.{name}"].float() + 0.5 * (ja_value - base_value)
    assert torch.allclose(after[f"lens.text.model.{name}"], expected, atol=1e-6)


def test_the_new_familys_row_is_found_and_the_page_names_every_field_of_a_row(plugin: Path):
    code = """
from types import SimpleNamespace
from evovlm.engines.prompts import picture_mark
from evovlm.system.plugins import load_plugins
load_plugins()
model, processor = SimpleNamespace(config=SimpleNamespace(model_type="lens")), SimpleNamespace(image_token="<image>")
print(picture_mark(model, processor))
"""
    assert inside(code, plugin) == "<lens>\n"
    table = PAGE[PAGE.index("| field of a row |") :].partition("\n\n")[0]
    named = [field for row in table.splitlines()[2:] for field in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(field.name for field in fields(Family))


def test_a_plugin_that_fails_is_named(tmp_path: Path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text("[evovlm.plugins]\nbad = broken_module\n")
    (tmp_path / "broken_module.py").write_text("from evovlm.methods import METHOD\n")
    with companion(tmp_path) as other:
        done = other.evovlm("zoo", "list")
    assert done.returncode == 2
    assert "plugin bad (broken_module) cannot be loaded: ImportError" in done.stderr
    assert "Traceback" not in done.stderr
